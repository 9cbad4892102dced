/**
 * What splittable DoFns gave back: restrictions to be resumed, some of them not before a delay has passed. One row
 * each, in snapshots as source positions.
 *
 * Invariants: a residual holds the output watermark at what the SDK told for it, from the commit of the bundle that
 * gave it back until the commit of the bundle that ran it. The rows are at every moment what would have to run if nothing
 * of the running bundle happened: when it is split, what it keeps takes the place of what it had taken.
 */
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { NO_KEY_GROUP, type StateTable } from "../../state/state-rows.ts";

export interface NewResidual {
  readonly element: Uint8Array;
  /** Processing time before which it must not run. */
  readonly dueMs: number;
  readonly hold: Timestamp;
  /** It was truncated, in a job that drains: what is left of it is processed to its end. */
  readonly truncated: boolean;
}

interface StoredResidual extends NewResidual {
  readonly rowKey: string;
}

/** Residuals that were taken to be run by one bundle. */
export interface RunningResiduals {
  readonly elements: readonly Uint8Array[];
  /** The least of their holds. */
  readonly hold: Timestamp;
  /** In the bundle's commit: they have been run. */
  commit(): void;
  /** They will be taken again. */
  release(): void;
}

/** dueMs, hold (float64 each), whether it was truncated (1 byte), then the element. */
const HEADER_BYTES = 17;

export class Residuals {
  readonly #table: StateTable;
  readonly #waiting = new Map<string, StoredResidual>();
  readonly #running = new Map<string, StoredResidual>();
  readonly #idPrefix: string;
  #nextId = 0;

  /** @param idPrefix unique over the job's subtasks and execution attempts, since rows may be given to other subtasks */
  constructor(table: StateTable, idPrefix: string) {
    this.#table = table;
    this.#idPrefix = idPrefix;
    for (const [rowKey, value] of table.entries()) {
      const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
      this.#waiting.set(rowKey, {
        rowKey,
        element: value.subarray(HEADER_BYTES),
        dueMs: view.getFloat64(0),
        hold: view.getFloat64(8) as Timestamp,
        truncated: view.getUint8(16) === 1,
      });
    }
  }

  get count(): number {
    return this.#waiting.size + this.#running.size;
  }

  get hold(): Timestamp {
    let hold: Timestamp = MAX_TIMESTAMP;
    for (const residual of this.#waiting.values()) if (residual.hold < hold) hold = residual.hold;
    for (const residual of this.#running.values()) if (residual.hold < hold) hold = residual.hold;
    return hold;
  }

  /** When the next one may run; undefined when none waits. */
  get nextDueMs(): number | undefined {
    let next: number | undefined;
    for (const residual of this.#waiting.values())
      if (next === undefined || residual.dueMs < next) next = residual.dueMs;
    return next;
  }

  add(residual: NewResidual): void {
    const stored = this.#store(residual);
    this.#waiting.set(stored.rowKey, stored);
  }

  #store(residual: NewResidual): StoredResidual {
    const rowKey = `${NO_KEY_GROUP}${this.#idPrefix}-${this.#nextId++}`;
    const row = new Uint8Array(HEADER_BYTES + residual.element.length);
    const view = new DataView(row.buffer);
    view.setFloat64(0, residual.dueMs);
    view.setFloat64(8, residual.hold);
    view.setUint8(16, residual.truncated ? 1 : 0);
    row.set(residual.element, HEADER_BYTES);
    this.#table.put(rowKey, row);
    return { ...residual, rowKey, element: row.subarray(HEADER_BYTES) };
  }

  /** Those that are due, earliest first; undefined when none is. */
  takeDue(nowMs: number, maxCount: number): RunningResiduals | undefined {
    return this.#take((residual) => residual.dueMs <= nowMs, maxCount);
  }

  /** Those that have not been truncated, due or not; undefined when there is none. */
  takeUntruncated(maxCount: number): RunningResiduals | undefined {
    return this.#take((residual) => !residual.truncated, maxCount);
  }

  #take(isWanted: (residual: StoredResidual) => boolean, maxCount: number): RunningResiduals | undefined {
    const due = [...this.#waiting.values()]
      .filter(isWanted)
      .sort((left, right) => left.dueMs - right.dueMs)
      .slice(0, maxCount);
    if (due.length === 0) return undefined;
    for (const residual of due) {
      this.#waiting.delete(residual.rowKey);
      this.#running.set(residual.rowKey, residual);
    }
    return this.#taken(due);
  }

  /**
   * A bundle was split: what it keeps is all that it has still taken, and is stored so.
   * @param taken what it had taken of residuals; what else it had taken was not stored
   */
  keep(taken: RunningResiduals | undefined, kept: readonly NewResidual[]): RunningResiduals {
    taken?.commit();
    const stored = kept.map((residual) => {
      const each = this.#store(residual);
      this.#running.set(each.rowKey, each);
      return each;
    });
    return this.#taken(stored);
  }

  #taken(due: readonly StoredResidual[]): RunningResiduals {
    return {
      elements: due.map((residual) => residual.element),
      hold: due.reduce((least: Timestamp, { hold }) => (hold < least ? hold : least), MAX_TIMESTAMP),
      commit: () => {
        for (const { rowKey } of due) {
          this.#running.delete(rowKey);
          this.#table.delete(rowKey);
        }
      },
      release: () => {
        for (const residual of due) {
          this.#running.delete(residual.rowKey);
          this.#waiting.set(residual.rowKey, residual);
        }
      },
    };
  }
}
