/** How long a task's part of a checkpoint takes: alignment, waiting for what is before the barrier, writing. */
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
  /** What was in flight is known, too. Where a snapshot has nothing of that kind it is never called. */
  whole(): void;
  /** To be asked when all of it is stored. */
  durations(): SnapshotDurations;
}

export class BarrierTimes {
  readonly #clock: Clock;
  /** When the gate began to align, and when the barrier that is inside went in. */
  #alignmentBeganMs: number | undefined;
  #alignmentMs = 0;
  #barrierCameMs: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The gate holds a barrier back until the others have come. */
  aligning(): void {
    crashPoint("during-alignment");
    this.#alignmentBeganMs ??= this.#clock.nowMs();
  }

  /** The barrier has left the gate, or begins at this task. */
  came(): void {
    this.#barrierCameMs = this.#clock.nowMs();
    this.#alignmentMs = this.#barrierCameMs - (this.#alignmentBeganMs ?? this.#barrierCameMs);
    this.#alignmentBeganMs = undefined;
  }

  /** The rows are frozen. @param overtook by a barrier that may still have to come on some channels */
  frozen(overtook: boolean): FrozenTimes {
    const clock = this.#clock;
    const frozenMs = clock.nowMs();
    const commitWaitMs = frozenMs - (this.#barrierCameMs ?? frozenMs);
    const alignmentMs = this.#alignmentMs;
    let wholeMs = frozenMs;
    return {
      whole: () => (wholeMs = clock.nowMs()),
      durations: () => ({
        alignmentMs: overtook ? alignmentMs + (wholeMs - frozenMs) : alignmentMs,
        commitWaitMs: overtook ? commitWaitMs : commitWaitMs + (wholeMs - frozenMs),
        writeMs: clock.nowMs() - wholeMs,
      }),
    };
  }
}
