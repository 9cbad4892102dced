/**
 * How long a task's part of a checkpoint takes: alignment, waiting for what is before the barrier, writing. Barriers of
 * several checkpoints may be inside of the task, one behind the other.
 */
import type { Clock } from "../../base/clock.ts";
import { crashPoint } from "../../base/crash-points.ts";

export interface SnapshotDurations {
  /** From the first barrier to the last one. Unless a barrier overtook, channels were held back meanwhile. */
  readonly alignmentMs: number;
  /** Until what was before the barrier had committed, and was sent where the barrier may overtake it. */
  readonly commitWaitMs: number;
  readonly writeMs: number;
}

/** Of a snapshot whose rows are frozen. */
export interface FrozenTimes {
  /** As `came` said. */
  readonly waitedFor: string;
  /** What was in flight is known, too. Where a snapshot has nothing of that kind it is never called. */
  whole(): void;
  /** To be asked when all of it is stored. */
  durations(): SnapshotDurations;
}

interface Came {
  readonly atMs: number;
  readonly alignmentMs: number;
  readonly waitedFor: string;
}

export class BarrierTimes {
  readonly #clock: Clock;
  #alignmentBeganMs: number | undefined;
  /** Of barriers that are inside, by checkpoint. */
  readonly #came = new Map<number, Came>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The gate holds a barrier back until the others have come. */
  aligning(): void {
    crashPoint("during-alignment");
    this.#alignmentBeganMs ??= this.#clock.nowMs();
  }

  /** The barrier has left the gate, or begins at this task. @param waitedFor what is before it, for people; empty: nothing */
  came(checkpointId: number, waitedFor: string): void {
    const atMs = this.#clock.nowMs();
    this.#came.set(checkpointId, { atMs, alignmentMs: atMs - (this.#alignmentBeganMs ?? atMs), waitedFor });
    this.#alignmentBeganMs = undefined;
  }

  /** The rows are frozen. @param overtook by a barrier that may still have to come on some channels */
  frozen(checkpointId: number, overtook: boolean): FrozenTimes {
    const clock = this.#clock;
    const frozenMs = clock.nowMs();
    const { atMs, alignmentMs, waitedFor } = this.#came.get(checkpointId) ?? {
      atMs: frozenMs,
      alignmentMs: frozenMs - (this.#alignmentBeganMs ?? frozenMs),
      waitedFor: "",
    };
    this.#alignmentBeganMs = undefined;
    for (const id of this.#came.keys()) if (id <= checkpointId) this.#came.delete(id);
    const commitWaitMs = frozenMs - atMs;
    let wholeMs = frozenMs;
    return {
      waitedFor,
      whole: () => (wholeMs = clock.nowMs()),
      durations: () => ({
        alignmentMs: overtook ? alignmentMs + (wholeMs - frozenMs) : alignmentMs,
        commitWaitMs: overtook ? commitWaitMs : commitWaitMs + (wholeMs - frozenMs),
        writeMs: clock.nowMs() - wholeMs,
      }),
    };
  }
}
