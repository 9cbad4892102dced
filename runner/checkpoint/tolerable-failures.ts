/**
 * How many checkpoints may fail in a row before the job does, which is restarted then as its restart strategy says. Pure.
 *
 * As Flink's tolerable-failed-checkpoints, of which Weir's default is any number: a store that is down for a while costs
 * checkpoints and no job. Savepoints count for nothing, and neither does what ends because its job restarts.
 */

export class TolerableFailures {
  readonly #tolerable: number;
  #inARow = 0;
  #newestComplete = 0;

  /** @param tolerable undefined: any number */
  constructor(tolerable: number | undefined) {
    this.#tolerable = tolerable ?? Infinity;
  }

  /**
   * @param reason a sentence, with or without its full stop
   * @returns why the job cannot go on, without a full stop, when it was one too many; then the count begins anew
   */
  failed(checkpointId: number, reason: string): string | undefined {
    // A later one has all that this one would have had.
    if (checkpointId < this.#newestComplete) return undefined;
    this.#inARow++;
    if (this.#inARow <= this.#tolerable) return undefined;
    const what = this.#inARow === 1 ? "A checkpoint has" : `${this.#inARow} checkpoints in a row have`;
    this.#inARow = 0;
    return `${what} failed, and --tolerable_checkpoint_failures=${this.#tolerable} allows no more; the last one: ${reason.replace(/\.$/, "")}`;
  }

  completed(checkpointId: number): void {
    this.#newestComplete = Math.max(this.#newestComplete, checkpointId);
    this.#inARow = 0;
  }
}
