/**
 * Bundles that asked for finalization: finalized once, when the first checkpoint whose barrier came after them is
 * complete; at once in jobs without checkpoints.
 *
 * Invariant: one after the other, in the order in which the bundles committed. A source that commits its offset when
 * its bundle is finalized would go back to an older one otherwise.
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
  /** Those that wait for the one before them to be answered. */
  #due: Finalize[] = [];
  #running: Promise<void> | undefined;
  droppedCount = 0;

  constructor(checkpoints: boolean) {
    this.#checkpoints = checkpoints;
  }

  /** Resolves when the finalizations that have become due are answered. */
  async settled(): Promise<void> {
    await this.#running;
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
    this.#due.push(finalize);
    this.#running ??= this.#runDue();
  }

  async #runDue(): Promise<void> {
    while (this.#due.length > 0) {
      const due = this.#due;
      this.#due = [];
      for (const finalize of due) await finalize();
    }
    this.#running = undefined;
  }
}
