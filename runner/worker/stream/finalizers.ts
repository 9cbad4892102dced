/**
 * Bundles that asked for finalization: finalized once, when the first checkpoint whose barrier came after them is
 * complete; at once in jobs without checkpoints.
 *
 * Source: bundle finalization of beam_fn_api.proto; best effort, at most once.
 */

/** Each keeps a bundle processor alive in its harness: beyond this the oldest are forgotten, and counted. */
const MAX_PENDING = 10_000;

export class Finalizers {
  readonly #checkpoints: boolean;
  /** Committed since the last barrier. */
  #open: (() => void)[] = [];
  readonly #byCheckpoint = new Map<number, (() => void)[]>();
  droppedCount = 0;

  constructor(checkpoints: boolean) {
    this.#checkpoints = checkpoints;
  }

  add(finalize: () => void): void {
    if (!this.#checkpoints) finalize();
    else {
      if (this.#open.length >= MAX_PENDING) {
        this.#open.shift();
        this.droppedCount++;
      }
      this.#open.push(finalize);
    }
  }

  barrier(checkpointId: number): void {
    this.#byCheckpoint.set(checkpointId, this.#open);
    this.#open = [];
  }

  /** Finalizes what committed before this checkpoint's barrier, and before those of checkpoints that were given up. */
  complete(checkpointId: number): void {
    for (const [id, finalizers] of [...this.#byCheckpoint].sort(([left], [right]) => left - right)) {
      if (id > checkpointId) break;
      this.#byCheckpoint.delete(id);
      for (const finalize of finalizers) finalize();
    }
  }
}
