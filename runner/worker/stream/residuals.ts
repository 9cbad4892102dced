/**
 * What splittable DoFns gave back: restrictions to be resumed, some of them not before a delay has passed. One row
 * each, in snapshots as source positions.
 *
 * Invariants: a residual holds the output watermark at what the SDK told for it, from the commit of the bundle that
 * gave it back until the commit of the bundle that ran it. The rows are at every moment what would have to run if nothing
 * of the running bundle happened: when it is split, what it keeps takes the place of what it had taken. They run in the
 * order in which they are due.
 */
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { NO_KEY_GROUP, type StateTable } from "../../state/state-rows.ts";
import { type HeapItem, IndexedHeap } from "./timers/indexed-heap.ts";
import { TimerHolds } from "./timers/timer-holds.ts";

export interface NewResidual {
  readonly element: Uint8Array;
  /** Processing time before which it must not run. */
  readonly dueMs: number;
  readonly hold: Timestamp;
  /** It was truncated, in a job that drains: what is left of it is processed to its end. */
  readonly truncated: boolean;
}

interface StoredResidual extends NewResidual, HeapItem {
  readonly rowKey: string;
  /** Of those that are due at the same time the least runs first. */
  readonly ordinal: number;
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
  readonly #waiting = new Set<StoredResidual>();
  readonly #due = new IndexedHeap<StoredResidual>((left, right) => compare(left, right) < 0);
  /** Of all, waiting and running. */
  readonly #holds = new TimerHolds();
  #runningCount = 0;
  readonly #idPrefix: string;
  #nextId = 0;
  #nextOrdinal = 0;

  /** @param idPrefix unique over the job's subtasks and execution attempts, since rows may be given to other subtasks */
  constructor(table: StateTable, idPrefix: string) {
    this.#table = table;
    this.#idPrefix = idPrefix;
    for (const [rowKey, value] of table.entries()) {
      const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
      this.#wait({
        rowKey,
        element: value.subarray(HEADER_BYTES),
        dueMs: view.getFloat64(0),
        hold: view.getFloat64(8) as Timestamp,
        truncated: view.getUint8(16) === 1,
        ordinal: this.#nextOrdinal++,
        heapIndex: -1,
      });
    }
    for (const { hold } of this.#waiting) this.#holds.add(hold);
  }

  get count(): number {
    return this.#waiting.size + this.#runningCount;
  }

  get hold(): Timestamp {
    return this.#holds.least;
  }

  /** When the next one may run; undefined when none waits. */
  get nextDueMs(): number | undefined {
    return this.#due.first?.dueMs;
  }

  add(residual: NewResidual): void {
    this.#wait(this.#store(residual));
  }

  #wait(residual: StoredResidual): void {
    this.#waiting.add(residual);
    this.#due.add(residual);
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
    this.#holds.add(residual.hold);
    return { ...residual, rowKey, element: row.subarray(HEADER_BYTES), ordinal: this.#nextOrdinal++, heapIndex: -1 };
  }

  /** Those that are due, earliest first; undefined when none is. */
  takeDue(nowMs: number, maxCount: number): RunningResiduals | undefined {
    const due: StoredResidual[] = [];
    for (let first = this.#due.first; first !== undefined && due.length < maxCount; first = this.#due.first) {
      if (first.dueMs > nowMs) break;
      this.#take(first);
      due.push(first);
    }
    return due.length === 0 ? undefined : this.#taken(due);
  }

  /** Those that have not been truncated, due or not, earliest first; undefined when there is none. */
  takeUntruncated(maxCount: number): RunningResiduals | undefined {
    const untruncated = [...this.#waiting].filter(({ truncated }) => !truncated);
    const wanted = untruncated.sort(compare).slice(0, maxCount);
    if (wanted.length === 0) return undefined;
    for (const residual of wanted) this.#take(residual);
    return this.#taken(wanted);
  }

  #take(residual: StoredResidual): void {
    this.#waiting.delete(residual);
    this.#due.remove(residual);
    this.#runningCount++;
  }

  /**
   * A bundle was split: what it keeps is all that it has still taken, and is stored so.
   * @param taken what it had taken of residuals; what else it had taken was not stored
   */
  keep(taken: RunningResiduals | undefined, kept: readonly NewResidual[]): RunningResiduals {
    taken?.commit();
    this.#runningCount += kept.length;
    return this.#taken(kept.map((residual) => this.#store(residual)));
  }

  #taken(due: readonly StoredResidual[]): RunningResiduals {
    return {
      elements: due.map((residual) => residual.element),
      hold: due.reduce((least: Timestamp, { hold }) => (hold < least ? hold : least), MAX_TIMESTAMP),
      commit: () => {
        this.#runningCount -= due.length;
        for (const { rowKey, hold } of due) {
          this.#holds.remove(hold);
          this.#table.delete(rowKey);
        }
      },
      release: () => {
        this.#runningCount -= due.length;
        for (const residual of due) this.#wait(residual);
      },
    };
  }
}

/** Negative when the left one runs first. */
function compare(left: StoredResidual, right: StoredResidual): number {
  return left.dueMs - right.dueMs || left.ordinal - right.ordinal;
}
