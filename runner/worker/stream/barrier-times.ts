/** How long a task's part of a checkpoint takes: alignment, waiting for what is before the barrier, writing. */
import { crashPoint } from "../../base/crash-points.ts";
import type { Clock } from "../../base/clock.ts";

export interface SnapshotDurations {
  readonly alignmentMs: number;
  readonly commitWaitMs: number;
  readonly writeMs: number;
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

  /** The rows are frozen. @returns how to ask for the durations when they are written */
  frozen(): () => SnapshotDurations {
    const frozenMs = this.#clock.nowMs();
    const commitWaitMs = frozenMs - (this.#barrierCameMs ?? frozenMs);
    const alignmentMs = this.#alignmentMs;
    return () => ({ alignmentMs, commitWaitMs, writeMs: this.#clock.nowMs() - frozenMs });
  }
}
