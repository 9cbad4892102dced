/** Wakes a stage when the next of its timers or residuals is due. */
import type { JobClock } from "./job-clock.ts";

export class StageAlarm {
  readonly #jobClock: JobClock;
  readonly #wake: () => void;
  #forget: (() => void) | undefined;
  #dueMs: number | undefined;

  constructor(jobClock: JobClock, wake: () => void) {
    this.#jobClock = jobClock;
    this.#wake = wake;
  }

  /** @param dueMs Infinity: nothing is */
  set(dueMs: number): void {
    if (dueMs === this.#dueMs) return;
    this.close();
    if (dueMs === Infinity) return;
    this.#dueMs = dueMs;
    this.#forget = this.#jobClock.wakeAt(dueMs, () => {
      this.#dueMs = undefined;
      this.#wake();
    });
  }

  close(): void {
    this.#forget?.();
    this.#forget = undefined;
    this.#dueMs = undefined;
  }
}
