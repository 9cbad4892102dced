/**
 * Whether a task stands still behind the barrier of a savepoint with which the job is to end: it reads nothing, starts
 * no bundle and fires no timer, so that nothing behind the barrier ever takes effect. When the savepoint is given up, or
 * was not what ends the job, it goes on as if nothing had happened.
 *
 * Invariant: a barrier that comes after its checkpoint's end does not stop the task: nobody would start it again.
 */
import type { Barrier } from "./channel-queue.ts";

export class SavepointStop {
  #stoppedBy: number | undefined;
  #newestEnded = -1;

  get isStopped(): boolean {
    return this.#stoppedBy !== undefined;
  }

  /** The barrier is behind the task: its rows are frozen. */
  passed({ checkpointId, savepoint }: Barrier): void {
    if (savepoint?.stops === true && checkpointId > this.#newestEnded) this.#stoppedBy = checkpointId;
  }

  /** @param stops the job ends with it */
  ended(checkpointId: number, stops: boolean): void {
    this.#newestEnded = Math.max(this.#newestEnded, checkpointId);
    if (!stops && this.#stoppedBy !== undefined && this.#stoppedBy <= checkpointId) this.#stoppedBy = undefined;
  }
}
