/**
 * Restrictions of splittable DoFns: ranges of offsets, claimed one after another. Claims and splits never overlap: what
 * has been claimed stays in the primary.
 *
 * Source: OffsetRestrictionTracker of Beam's SDKs.
 */

export interface OffsetRange {
  readonly start: number;
  /** Not in the range. */
  readonly stop: number;
}

/** The stop of a range that has no end. */
export const UNBOUNDED_STOP = Number.MAX_SAFE_INTEGER;

export class OffsetRangeTracker {
  #range: OffsetRange;
  #claimed: number | undefined;
  /** An offset beyond the range was asked for: the function knows that it is done. */
  #isExhausted = false;

  constructor(range: OffsetRange) {
    this.#range = range;
  }

  get range(): OffsetRange {
    return this.#range;
  }

  /** False when the offset is not this restriction's (any more): the function returns then. */
  tryClaim(offset: number): boolean {
    if (this.#claimed !== undefined && offset <= this.#claimed)
      throw new Error(`Offset ${offset} was claimed after ${this.#claimed}.`);
    if (offset < this.#range.start)
      throw new Error(`Offset ${offset} is before the range's start ${this.#range.start}.`);
    if (offset >= this.#range.stop) {
      this.#isExhausted = true;
      return false;
    }
    this.#claimed = offset;
    return true;
  }

  /** True when nothing is left to be claimed. */
  get isDone(): boolean {
    return this.#isExhausted || this.#next >= this.#range.stop;
  }

  get #next(): number {
    return this.#claimed === undefined ? this.#range.start : this.#claimed + 1;
  }

  /** Gives away what follows the kept fraction of the remainder. @returns undefined when nothing can be given. */
  trySplit(fractionOfRemainder: number): OffsetRange | undefined {
    if (this.isDone) return undefined;
    const { start, stop } = this.#range;
    const next = this.#next;
    const keep = stop === UNBOUNDED_STOP ? 0 : Math.ceil((stop - next) * fractionOfRemainder);
    const at = next + keep;
    if (at >= stop) return undefined;
    this.#range = { start, stop: at };
    return { start: at, stop };
  }
}

/** How much work a restriction is. */
export function sizeOf({ start, stop }: OffsetRange): number {
  return stop === UNBOUNDED_STOP ? 1 : stop - start;
}
