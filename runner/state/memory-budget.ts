/**
 * A byte budget that many writers of one worker share. Writers say what they hold; when together they hold more than
 * the budget, the largest of them (the oldest of equals) are made to spill until a quarter of it is free again.
 *
 * Invariant: `usedBytes` counts memory that is really held, so bytes stay counted until they are on disk. It may pass
 * the limit by what arrives before the writers wait for `relief`, and by nothing else.
 */

/** Something that holds bytes which it can move to disk. */
export interface Spillable {
  /** Bytes that `spill` could free now; 0 when all of them are on their way already. */
  readonly spillableBytes: number;
  /** Moves at least `bytes` of them, or all, to disk. @throws WeirError when the disk refuses; they stay in memory then. */
  spill(bytes: number): Promise<void>;
}

/** A group of them that is registered as one, since it is opened and closed as one. */
export interface SpillableSource {
  spillables(): Iterable<Spillable>;
}

/** Spilling goes on until so much of the limit is used: choosing victims is then rare. */
const RELIEVED_FRACTION = 0.75;

export class MemoryBudget {
  readonly limitBytes: number;
  #usedBytes = 0;
  readonly #sources = new Set<SpillableSource>();
  #relief: Promise<void> | undefined;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  add(source: SpillableSource): void {
    this.#sources.add(source);
  }

  remove(source: SpillableSource): void {
    this.#sources.delete(source);
  }

  /** Counts bytes that a writer holds from now on; it then waits for `relief`. */
  reserve(bytes: number): void {
    this.#usedBytes += bytes;
  }

  /** Counts bytes that a writer holds no longer. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
  }

  /**
   * Undefined when the budget is kept. Else a promise that resolves when it is again, or nothing is left to spill.
   * @throws (rejects) WeirError when the disk refuses.
   */
  relief(): Promise<void> | undefined {
    if (this.#usedBytes <= this.limitBytes) return undefined;
    this.#relief ??= this.#relieve().finally(() => {
      this.#relief = undefined;
    });
    return this.#relief;
  }

  async #relieve(): Promise<void> {
    const goalBytes = this.limitBytes * RELIEVED_FRACTION;
    while (this.#usedBytes > this.limitBytes) {
      const victims = [...this.#spillables()].sort((left, right) => right.spillableBytes - left.spillableBytes);
      // What is over the budget is being written by someone else, or cannot be spilled.
      if (victims.length === 0) return;
      for (const victim of victims) {
        const excessBytes = this.#usedBytes - goalBytes;
        if (excessBytes <= 0) break;
        await victim.spill(excessBytes);
      }
    }
  }

  *#spillables(): Iterable<Spillable> {
    for (const source of this.#sources)
      for (const spillable of source.spillables()) if (spillable.spillableBytes > 0) yield spillable;
  }
}
