/**
 * How many elements the next bundle of a stage takes, by how long former ones have run: an aligned barrier waits for the
 * bundle that runs and the one that is ready to, so that bundles should be short, as far as short ones are no waste.
 *
 * Sizes are halved while bundles run for longer than they should, and only as long as an element costs no more in
 * smaller ones: what a bundle costs as a whole (a request in `finish_bundle`, a write for each key) weighs more then.
 */

/** Ten times as long as a bundle costs by itself, which keeps the loss within a few hundredths; short for a barrier. */
const TARGET_MS = 100;
/** What an element may cost in smaller bundles, of the least in any. Measurements differ as much by chance. */
const TOLERATED = 1.1;
/** Of a new measurement against those before it. */
const WEIGHT = 0.3;
/** So many bundles of a size are measured before it is judged. */
const TRIES = 3;
/** After so many bundles what was measured counts for nothing: user code and data change. */
const FORGET_AFTER = 1_000;

interface Cost {
  msPerElement: number;
  bundles: number;
}

export class BundleDuration {
  #size: number;
  readonly #maxSize: number;
  /** By halvings of the greatest size. */
  #costs: (Cost | undefined)[] = [];
  #halvings = 0;
  #bundles = 0;

  /** @param maxSize elements of a bundle, whatever it takes */
  constructor(maxSize: number) {
    this.#maxSize = maxSize;
    this.#size = maxSize;
  }

  /** At most `count`, at least 1. */
  limit(count: number): number {
    return Math.min(count, this.#size);
  }

  /** A bundle of so many elements has committed, that ran so long. */
  committed(count: number, durationMs: number): void {
    // A bundle that is not full took all there was: nothing waits for long.
    if (count < this.#size || count === 0) return;
    if (++this.#bundles % FORGET_AFTER === 0) this.#costs = [];
    const cost = (this.#costs[this.#halvings] ??= { msPerElement: durationMs / count, bundles: 0 });
    cost.msPerElement += (durationMs / count - cost.msPerElement) * WEIGHT;
    if (++cost.bundles < TRIES) return;
    const least = Math.min(...this.#costs.map((each) => each?.msPerElement ?? Infinity));
    const isWaste = (halvings: number) => (this.#costs[halvings]?.msPerElement ?? 0) > least * TOLERATED;
    const meanMs = cost.msPerElement * this.#size;
    if (this.#halvings > 0 && (isWaste(this.#halvings) || meanMs * 4 < TARGET_MS)) this.#resize(this.#halvings - 1);
    else if (meanMs > TARGET_MS && this.#size > 1 && !isWaste(this.#halvings + 1)) this.#resize(this.#halvings + 1);
  }

  #resize(halvings: number): void {
    this.#halvings = halvings;
    this.#size = Math.max(1, Math.floor(this.#maxSize / 2 ** halvings));
    const cost = this.#costs[halvings];
    if (cost !== undefined) cost.bundles = 0;
  }
}
