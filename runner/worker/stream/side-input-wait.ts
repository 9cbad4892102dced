/**
 * Lets main input wait for its side inputs: what cannot run yet goes to the pushed-back input, and to the front of the
 * stage's queue when its windows have become ready.
 */
import type { Chunk } from "../../base/chunk.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import { leastTimestamp } from "./encoded-elements.ts";
import type { PushedBackInput } from "./pushed-back-input.ts";
import type { StageQueue } from "./stage-queue.ts";
import type { StreamSideInputs } from "./stream-ports.ts";

export class SideInputWait {
  readonly #sideInputs: StreamSideInputs;
  readonly #pushedBack: PushedBackInput;
  readonly #skip: Skip;
  #hasMoved = false;

  /** @param skip over one element of main input */
  constructor(sideInputs: StreamSideInputs, pushedBack: PushedBackInput, skip: Skip) {
    this.#sideInputs = sideInputs;
    this.#pushedBack = pushedBack;
    this.#skip = skip;
  }

  /** A side input has new content or a new watermark. */
  moved(): void {
    this.#hasMoved = true;
  }

  /** What of a chunk may run now; the rest is pushed back. Undefined: all of every chunk may. */
  get divide(): ((chunk: Chunk) => Chunk | undefined) | undefined {
    return this.#sideInputs.allReady ? undefined : (chunk) => this.#divide(chunk);
  }

  /** After a move: puts what has become ready to the front of the queue. */
  release(queue: StageQueue): void {
    if (!this.#hasMoved) return;
    this.#hasMoved = false;
    if (this.#pushedBack.count === 0) return;
    const released: { readonly chunk: Chunk; readonly hold: Timestamp }[] = [];
    for (const { chunk, hold } of [...this.#pushedBack.takeAll()]) {
      const ready = this.#sideInputs.allReady ? chunk : this.#divide(chunk);
      if (ready !== undefined) released.push({ chunk: ready, hold });
    }
    queue.release(released, false);
  }

  #divide(chunk: Chunk): Chunk | undefined {
    const { ready, waiting } = this.#sideInputs.divide(chunk);
    if (waiting !== undefined) this.#pushedBack.add(waiting, leastTimestamp(waiting.data, this.#skip));
    return ready;
  }
}
