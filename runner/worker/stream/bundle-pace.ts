/**
 * How long a bundle of a splittable stage runs before it is split: shorter and shorter while its consumers cannot keep
 * up. A bundle's output goes into the channels in one step, whatever they should hold, and a barrier waits behind it.
 *
 * Bundles get longer again as soon as one starts without having waited for room, so that a source for which each bundle
 * is costly never has shorter ones than its consumers can bear.
 */
const FACTOR = 2;

export class BundlePace {
  readonly #minMs: number;
  readonly #maxMs: number;
  #ms: number;
  #lastMs = Infinity;
  #hasWaited = false;

  constructor(minMs: number, maxMs: number) {
    this.#minMs = Math.min(minMs, maxMs);
    this.#maxMs = maxMs;
    // What a first bundle that is too long has put into the channels takes long to get out again.
    this.#ms = this.#minMs;
  }

  /** A bundle could start, and has to wait for room in a channel. */
  waits(): void {
    this.#hasWaited = true;
  }

  /** Milliseconds, of the bundle that starts now. */
  next(): number {
    // The last one may have ended by itself, long before it would have been split.
    if (this.#hasWaited) this.#ms = Math.max(this.#minMs, Math.min(this.#ms, this.#lastMs) / FACTOR);
    else this.#ms = Math.min(this.#maxMs, this.#ms * FACTOR);
    this.#hasWaited = false;
    return this.#ms;
  }

  /** A bundle has ended that ran so long. */
  ended(durationMs: number): void {
    this.#lastMs = durationMs;
  }
}
