/**
 * A job's processing time on one worker, in one execution attempt: the worker's clock, or, in a job with a TestStream,
 * the TestStream's, which begins at 0 and stands still until it is set.
 *
 * User code has no way to ask for a TestStream's time. Timers are set for absolute times all the same: for the
 * TestStream's own, as Python's tests do, or for the machine's now and some seconds, as library transforms and the
 * relative timers of other SDKs do. `timeOf` tells them apart by which of the two clocks is nearer; Prism takes all of
 * them as the machine's.
 */
import type { Clock } from "../../base/clock.ts";
import { MAX_TIMESTAMP } from "../../time/timestamp.ts";

/** Where a TestStream's time is after its last event. Nothing else will move it, so whatever is set is due. */
export const END_OF_PROCESSING_TIME_MS: number = MAX_TIMESTAMP;

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

  /** The job's time for the one that user code has set a timer for. */
  timeOf(setForMs: number): number {
    if (this.#setMs === undefined) return setForMs;
    const machineMs = this.#clock.nowMs();
    const isMachines = Math.abs(setForMs - machineMs) < Math.abs(setForMs - this.#setMs);
    return Math.min(END_OF_PROCESSING_TIME_MS, isMachines ? this.#setMs + (setForMs - machineMs) : setForMs);
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
