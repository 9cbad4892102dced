/**
 * The timers of one streaming task. A row per timer that is set (value: fire timestamp, hold timestamp, pane, as the
 * SDK encoded them) is all that is durable; queues and holds are in memory and rebuilt from the rows.
 *
 * Invariants: a timer is (transform, family, dynamic tag, key, window); setting it again replaces it. What a bundle sets
 * and clears is seen at its commit, after the timers that it fired are gone. A timer being fired still holds the
 * watermark. Every timer holds it, those of processing time too, as in the Java reference.
 * Timers set beyond their window's expiry: those of event time fire all the same, as in the Flink and Prism runners (the
 * Java SDK refuses to set them, the Python SDK sets them for the end of the window); those of processing time are
 * dropped once the window has expired, as in StatefulDoFnRunner of the Java reference.
 */
import { assert } from "../../../base/assert.ts";
import type { Chunk } from "../../../base/chunk.ts";
import { WeirError } from "../../../base/errors.ts";
import type { ExecutableStageSpec, ExecutionGraph } from "../../../graph/execution-graph.ts";
import { keyGroupOfRow, type StateTable } from "../../../state/state-rows.ts";
import {
  MAX_TIMESTAMP,
  MIN_TIMESTAMP,
  readTimestamp,
  type Timestamp,
  writeTimestamp,
} from "../../../time/timestamp.ts";
import type { FiringTimers, TaskTime, TimerBatch, Timers, TimersBundle } from "../stream-ports.ts";
import { WindowExpiry } from "../user-state-expiry.ts";
import type { TimerHold } from "../watermark-hold.ts";
import { rowPrefixOf, type TimerChange, TimerFamily } from "./timer-family.ts";
import { TimerHolds } from "./timer-holds.ts";
import { type SetTimer, TimerQueue } from "./timer-queue.ts";
import { WindowExpirationTimers } from "./window-expiration-timers.ts";

export interface KeyedTimersInit {
  /** What it holds is restored. */
  readonly table: StateTable;
  readonly stage: Pick<ExecutableStageSpec, "timers" | "transforms" | "inputCoderId">;
  readonly graph: Pick<ExecutionGraph, "coders" | "windowings">;
  readonly maxParallelism: number;
  /** The job's time for the one that a timer of processing time is set for; the same by default. */
  readonly processingTimeOf?: (setForMs: number) => number;
}

export class KeyedTimers implements Timers {
  readonly #table: StateTable;
  readonly #processingTimeOf: ((setForMs: number) => number) | undefined;
  /** By transform and family, as row keys spell them. */
  readonly #families: ReadonlyMap<string, TimerFamily>;
  readonly #byTransform = new Map<string, Map<string, TimerFamily>>();
  readonly #expirations: readonly WindowExpirationTimers[];
  readonly #timers = new Map<string, SetTimer>();
  readonly #eventTime = new TimerQueue();
  readonly #processingTime = new TimerQueue();
  readonly #holds = new TimerHolds();
  /** Cells of timers being fired. */
  readonly #busyCells = new Set<string>();
  /** When processing-time timers of windows that end are dropped. */
  readonly #expiries = new Map<TimerFamily, WindowExpiry>();
  #expiredUpTo: Timestamp = MIN_TIMESTAMP;

  /** @throws WeirError for coders that the runner cannot walk and for rows that are not this stage's. */
  constructor({ table, stage, graph, maxParallelism, processingTimeOf }: KeyedTimersInit) {
    this.#table = table;
    this.#processingTimeOf = processingTimeOf;
    const nameOf = new Map(stage.transforms.map(({ id, uniqueName }) => [id, uniqueName]));
    const families = stage.timers
      .map((spec) => new TimerFamily(spec, nameOf.get(spec.transformId) ?? spec.transformId, graph, maxParallelism))
      .sort(inRank);
    this.#families = new Map(families.map((family) => [family.rowPrefix, family]));
    for (const [rank, family] of families.entries()) {
      family.rank = rank;
      const ofTransform = this.#byTransform.get(family.transformId) ?? new Map<string, TimerFamily>();
      this.#byTransform.set(family.transformId, ofTransform.set(family.timerFamilyId, family));
      if (!family.isEventTime && family.windowsExpire)
        this.#expiries.set(
          family,
          new WindowExpiry((window) => family.maxTimestampOf(window), family.allowedLatenessMs),
        );
    }
    this.#expirations = families
      .filter((family) => family.onWindowExpiration)
      .map((family) => new WindowExpirationTimers(family, graph.coders, stage.inputCoderId));
    for (const [rowKey, value] of table.entries()) this.#index(this.#familyOfRow(rowKey).changeOfRow(rowKey, value));
  }

  get count(): number {
    return this.#timers.size;
  }

  get hold(): Timestamp {
    return this.#holds.least;
  }

  get nextProcessingTimeMs(): number | undefined {
    return this.#processingTime.nextDue;
  }

  describeHolds(): TimerHold[] {
    const holds = new Map<TimerFamily, TimerHold>();
    for (const { family, hold, rowKey } of this.#timers.values()) {
      const least = holds.get(family);
      if (least !== undefined && least.timestamp < hold) continue;
      const keyGroup = keyGroupOfRow(rowKey);
      const isEqual = least?.timestamp === hold;
      holds.set(family, {
        transform: family.transformName,
        timerFamilyId: family.timerFamilyId,
        isEventTime: family.isEventTime,
        timestamp: hold,
        count: isEqual ? least.count + 1 : 1,
        keyGroupFirst: isEqual ? Math.min(least.keyGroupFirst, keyGroup) : keyGroup,
        keyGroupLast: isEqual ? Math.max(least.keyGroupLast, keyGroup) : keyGroup,
      });
    }
    return [...holds.values()];
  }

  beginBundle(): TimersBundle {
    const changes = new Map<string, TimerChange>();
    let isOpen = true;
    const end = () => {
      assert(isOpen, "the timers of a bundle are committed or aborted once");
      isOpen = false;
    };
    return {
      accept: (transformId, timerFamilyId, timers) => {
        assert(isOpen, "a bundle that has ended sets no timers");
        this.#familyOf(transformId, timerFamilyId).decode(timers, (change) =>
          changes.set(change.rowKey, this.#inJobTime(change)),
        );
      },
      commit: () => {
        end();
        for (const change of changes.values()) this.#apply(change);
      },
      abort: end,
    };
  }

  noteInput(chunk: Chunk): void {
    for (const expiration of this.#expirations)
      expiration.note(chunk, (change) => {
        const timer = this.#timers.get(change.rowKey);
        if (timer === undefined || timer.firing) this.#apply(change);
      });
  }

  takeEligible({ inputWatermark, processingTimeMs }: TaskTime, maxCount: number): FiringTimers | undefined {
    const timers: SetTimer[] = [];
    // At the end of all input there is nothing that would not be due.
    const eventTime = inputWatermark >= MAX_TIMESTAMP ? Infinity : inputWatermark;
    this.#eventTime.takeDue(eventTime, maxCount, this.#busyCells, timers);
    this.#processingTime.takeDue(processingTimeMs, maxCount, this.#busyCells, timers);
    if (timers.length === 0) return undefined;
    for (const timer of timers) timer.firing = true;
    let isOpen = true;
    const end = () => {
      assert(isOpen, "timers that fire are committed or released once");
      isOpen = false;
      for (const { cellId } of timers) this.#busyCells.delete(cellId);
    };
    return {
      batches: this.#batches(timers),
      count: timers.length,
      commit: () => {
        end();
        for (const timer of timers) this.#onFired(timer);
      },
      release: () => {
        end();
        for (const timer of timers) {
          timer.firing = false;
          if (this.#timers.get(timer.rowKey) === timer) this.#queueOf(timer.family).add(timer);
          else this.#holds.remove(timer.hold);
        }
      },
    };
  }

  expireWindows(inputWatermark: Timestamp): void {
    if (inputWatermark <= this.#expiredUpTo) return;
    this.#expiredUpTo = inputWatermark;
    for (const expiry of this.#expiries.values())
      for (const rowKey of expiry.takeExpired(inputWatermark)) {
        const timer = this.#timers.get(rowKey);
        if (timer !== undefined) this.#drop(timer);
      }
  }

  /** With the job's time in its row: it is asked for once, as it may depend on when that is. */
  #inJobTime(change: TimerChange): TimerChange {
    const { family, value } = change;
    if (family.isEventTime || value === undefined || this.#processingTimeOf === undefined) return change;
    const setFor = readTimestamp(value, 0);
    const due = this.#processingTimeOf(setFor) as Timestamp;
    if (due === setFor) return change;
    const moved = value.slice();
    writeTimestamp(moved, 0, due);
    return { ...change, value: moved };
  }

  #apply(change: TimerChange): void {
    const { family, rowKey, value } = change;
    const before = this.#timers.get(rowKey);
    if (before !== undefined) this.#drop(before);
    if (value === undefined || this.#isExpired(change)) return;
    this.#table.put(rowKey, value);
    this.#index({ family, rowKey, cellId: change.cellId, windowBytes: change.windowBytes, value });
  }

  /** The timer of a row. */
  #index(change: TimerChange): void {
    const { family, rowKey, cellId, windowBytes, value } = change;
    if (value === undefined) return;
    const due = family.dueOf(value);
    const hold = family.holdOf(value);
    const timer: SetTimer = { family, rowKey, cellId, windowBytes, due, hold, firing: false, heapIndex: -1 };
    this.#timers.set(rowKey, timer);
    this.#queueOf(family).add(timer);
    this.#holds.add(hold);
    this.#expiries.get(family)?.note(rowKey, windowOf(change), true);
  }

  #drop(timer: SetTimer): void {
    this.#timers.delete(timer.rowKey);
    this.#table.delete(timer.rowKey);
    this.#expiries.get(timer.family)?.note(timer.rowKey, windowOf(timer), false);
    // One that is being fired is in no queue, and holds until its bundle has ended.
    if (timer.firing) return;
    this.#queueOf(timer.family).remove(timer);
    this.#holds.remove(timer.hold);
  }

  #onFired(timer: SetTimer): void {
    // While it fired it may have been dropped, or set anew.
    if (this.#timers.get(timer.rowKey) === timer) this.#drop(timer);
    timer.firing = false;
    this.#holds.remove(timer.hold);
  }

  #isExpired(change: TimerChange): boolean {
    const { family } = change;
    if (!this.#expiries.has(family)) return false;
    return family.maxTimestampOf(windowOf(change)) + family.allowedLatenessMs < this.#expiredUpTo;
  }

  #queueOf(family: TimerFamily): TimerQueue {
    return family.isEventTime ? this.#eventTime : this.#processingTime;
  }

  /** Runs of timers of one family. */
  #batches(timers: readonly SetTimer[]): TimerBatch[] {
    const batches: TimerBatch[] = [];
    for (let start = 0, end = 0; start < timers.length; start = end) {
      const { family } = timers[start] as SetTimer;
      const values: Uint8Array[] = [];
      let length = 0;
      for (; timers[end]?.family === family; end++) {
        const { rowKey } = timers[end] as SetTimer;
        const value = this.#table.get(rowKey);
        assert(value !== undefined, "a timer that is set has a row");
        values.push(value);
        length += family.encodedBytes(rowKey, value);
      }
      const bytes = Buffer.allocUnsafeSlow(length);
      let at = 0;
      for (const [index, value] of values.entries()) {
        const { rowKey, windowBytes } = timers[start + index] as SetTimer;
        at = family.encode(rowKey, windowBytes, value, bytes, at);
      }
      batches.push({ transformId: family.transformId, timerFamilyId: family.timerFamilyId, timers: bytes });
    }
    return batches;
  }

  #familyOf(transformId: string, timerFamilyId: string): TimerFamily {
    const family = this.#byTransform.get(transformId)?.get(timerFamilyId);
    if (family === undefined)
      throw new WeirError({
        code: "NOT_FOUND",
        domain: "external",
        message: `Transform ${transformId} has no timer family "${timerFamilyId}", but its SDK has set a timer of it.`,
      });
    return family;
  }

  #familyOfRow(rowKey: string): TimerFamily {
    const prefix = rowPrefixOf(rowKey);
    const family = this.#families.get(prefix);
    if (family === undefined) {
      const names = Buffer.from(prefix, "latin1")
        .toString()
        .replace(/\p{Cc}/gu, " ")
        .trim();
      throw new WeirError({
        code: "FAILED_PRECONDITION",
        domain: "user",
        message: `The state to restore holds timers of transform and family ${names}, which the pipeline does not have.`,
        hint: "Restore with the pipeline that the snapshot was taken of.",
      });
    }
    return family;
  }
}

function windowOf({ rowKey, windowBytes }: Pick<TimerChange, "rowKey" | "windowBytes">): Uint8Array {
  return Buffer.from(rowKey.slice(rowKey.length - windowBytes), "latin1");
}

/** By name; what tells of a window's expiration comes last. */
function inRank(a: TimerFamily, b: TimerFamily): number {
  if (a.onWindowExpiration !== b.onWindowExpiration) return a.onWindowExpiration ? 1 : -1;
  return a.rowPrefix < b.rowPrefix ? -1 : 1;
}
