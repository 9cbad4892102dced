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
 * Of a batch job, where nobody waits for a bundle: what it may write, in budgets. Each bundle costs a read and a write for each of
 * its keys, so that one bundle of all costs a fraction of several; and the more elements it has, the less it writes for each.
 */
const GATHERED_BUDGETS = 16;

export class BundleSizing {
  readonly #budgetBytes: number;
  readonly #growth: number;
  #maxCount = FIRST_COUNT;

  /**
   * @param budgetBytes of state that a bundle should write at most
   * @param gathers of a batch job: the second bundle is as large as the first one's writes allow
   */
  constructor(budgetBytes: number, gathers = false) {
    this.#budgetBytes = gathers ? budgetBytes * GATHERED_BUDGETS : budgetBytes;
    this.#growth = gathers ? Infinity : GROWTH;
  }

  /** At most `count`, at least 1. */
  limit(count: number): number {
    return Math.min(count, this.#maxCount);
  }

  /** A bundle of so many elements or timers has committed. */
  committed(count: number, writtenBytes: number): void {
    const fitting = writtenBytes === 0 ? Infinity : Math.floor((this.#budgetBytes * count) / writtenBytes);
    // What a small bundle has written tells little of a large one.
    const known = count < this.#maxCount ? this.#maxCount : count * this.#growth;
    this.#maxCount = Math.max(1, Math.min(known, fitting));
  }
}
