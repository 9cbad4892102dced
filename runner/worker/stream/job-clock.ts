/**
 * A job's processing time on one worker, in one execution attempt: the worker's clock, or, from the first time that a
 * TestStream sets it, the TestStream's: it then stands still until it is set again.
 */
import type { Clock } from "../../base/clock.ts";

export class JobClock {
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  #setMs: number | undefined;

  /** @param standsAtMs set where a TestStream will set it: where it stands until then */
  constructor(clock: Clock, standsAtMs?: number) {
    this.#clock = clock;
    this.#setMs = standsAtMs;
  }

  nowMs(): number {
    return this.#setMs ?? this.#clock.nowMs();
  }

  /** Processing time of a TestStream. Never moves back. */
  set(nowMs: number): void {
    if (this.#setMs !== undefined && nowMs < this.#setMs) return;
    this.#setMs = nowMs;
    for (const listener of [...this.#listeners]) listener();
  }

  /** Calls `wake` once, when processing time has reached `dueMs`. @returns how to forget it. */
  wakeAt(dueMs: number, wake: () => void): () => void {
    const abort = new AbortController();
    const forget = () => {
      abort.abort();
      this.#listeners.delete(check);
    };
    const check = () => {
      if (this.nowMs() < dueMs) return;
      forget();
      wake();
    };
    this.#listeners.add(check);
    if (this.#setMs === undefined) {
      // Timers of Node hold 31 bits of milliseconds; whoever waits longer is woken early and looks again.
      const delayMs = Math.min(2 ** 31 - 1, Math.max(1, dueMs - this.nowMs()));
      this.#clock.sleep(delayMs, abort.signal).then(
        () => {
          forget();
          wake();
        },
        () => undefined,
      );
    }
    return forget;
  }
}
