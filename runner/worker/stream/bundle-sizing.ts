/**
 * How many elements, or timers, the next bundle of a stage with user state takes, by what former ones have written:
 * a bundle's writes are held back until it commits, in one step that must be short, and SDKs send them at its end, when
 * a split would come too late.
 *
 * It begins small and grows as long as bundles stay within the budget. A bundle that goes past it all the same has the
 * rest of its writes on disk (user-state-overlay.ts).
 */

/** Of the first bundle. */
const FIRST_COUNT = 100;
/** From a bundle that was full to the next. */
const GROWTH = 8;
/**
 * Of a batch job, where nobody waits for a bundle: the second bundle is so many times as large as what the first one has written
 * lets expect. Each bundle costs a read and a write for each of its keys, so that one bundle of all costs a fraction of several;
 * and the more elements it has, the less it writes for each. What is too much all the same is on disk, once.
 */
const OPTIMISM = 16;

export class BundleSizing {
  readonly #budgetBytes: number;
  readonly #growth: number;
  /** Of the next bundle that is measured. */
  #optimism: number;
  #maxCount = FIRST_COUNT;

  /**
   * @param budgetBytes of state that a bundle should write at most
   * @param gathers of a batch job: the second bundle is already as large as the first one's writes let hope
   */
  constructor(budgetBytes: number, gathers = false) {
    this.#budgetBytes = budgetBytes;
    this.#growth = gathers ? Infinity : GROWTH;
    this.#optimism = gathers ? OPTIMISM : 1;
  }

  /** At most `count`, at least 1. */
  limit(count: number): number {
    return Math.min(count, this.#maxCount);
  }

  /** A bundle of so many elements or timers has committed. */
  committed(count: number, writtenBytes: number): void {
    const budgetBytes = this.#budgetBytes * this.#optimism;
    const fitting = writtenBytes === 0 ? Infinity : Math.floor((budgetBytes * count) / writtenBytes);
    if (count >= this.#maxCount) this.#optimism = 1;
    // What a small bundle has written tells little of a large one.
    const known = count < this.#maxCount ? this.#maxCount : count * this.#growth;
    this.#maxCount = Math.max(1, Math.min(known, fitting));
  }
}
