/**
 * Bundles that asked for finalization: finalized once, when the first checkpoint whose barrier came after them is
 * complete; at once in jobs without checkpoints.
 *
 * Source: bundle finalization of beam_fn_api.proto; best effort, at most once.
 */

/** Sends FinalizeBundle and waits for the answer; never rejects. */
export type Finalize = () => Promise<void>;

/** Each keeps a bundle processor alive in its harness: beyond this the oldest are forgotten, and counted. */
const MAX_PENDING = 10_000;

export class Finalizers {
  readonly #checkpoints: boolean;
  /** Committed since the last barrier. */
  #open: Finalize[] = [];
  readonly #byCheckpoint = new Map<number, Finalize[]>();
  readonly #running = new Set<Promise<void>>();
  droppedCount = 0;

  constructor(checkpoints: boolean) {
    this.#checkpoints = checkpoints;
  }

  /** Resolves when the finalizations that have begun are answered. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  add(finalize: Finalize): void {
    if (!this.#checkpoints) this.#run(finalize);
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
      for (const finalize of finalizers) this.#run(finalize);
    }
  }

  #run(finalize: Finalize): void {
    const running = finalize().finally(() => this.#running.delete(running));
    this.#running.add(running);
  }
}
