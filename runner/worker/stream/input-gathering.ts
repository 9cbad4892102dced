/**
 * Lets the input of a stage gather before a bundle takes it, where nobody waits for each result: in a bounded job, at
 * a stage with user state. The SDK reads and writes a key's state once for each bundle in which the key comes, so that
 * many small bundles cost many times the requests of a large one.
 *
 * Invariant: it ends; when a bundle is full, when a mark has come (all that is before it must run), or after a while.
 */
import type { Clock } from "../../base/clock.ts";
import type { StageQueue } from "./stage-queue.ts";

export interface InputGatheringInit {
  /** A bundle takes no more than these. */
  readonly maxBytes: number;
  readonly maxElements: () => number;
  /** Input waits no longer. */
  readonly maxMs: number;
  readonly clock: Clock;
  /** The time is over. */
  readonly wake: () => void;
}

export class InputGathering {
  readonly #init: InputGatheringInit;
  #timer: AbortController | undefined;
  #isOver = false;

  constructor(init: InputGatheringInit) {
    this.#init = init;
  }

  /** Whether the input at the front should wait for more. Asked when a bundle could start. */
  waits(queue: Pick<StageQueue, "front" | "bytes" | "elements" | "hasMark">): boolean {
    const { maxBytes, maxElements } = this.#init;
    const gathers =
      queue.front?.kind === "data" && !queue.hasMark && queue.bytes < maxBytes && queue.elements < maxElements();
    if (gathers && !this.#isOver) {
      this.#begin();
      return true;
    }
    this.close();
    return false;
  }

  #begin(): void {
    if (this.#timer !== undefined) return;
    this.#timer = new AbortController();
    const { clock, maxMs, wake } = this.#init;
    clock.sleep(maxMs, this.#timer.signal).then(
      () => {
        this.#isOver = true;
        wake();
      },
      () => undefined,
    );
  }

  /** Ends the wait. Idempotent. */
  close(): void {
    this.#timer?.abort();
    this.#timer = undefined;
    this.#isOver = false;
  }
}
