/** Which execution attempts of which jobs are over on this worker, so that what comes late for one is refused. */
import { WeirError } from "../../base/errors.ts";

/** Jobs that are remembered; a message of a job that ended so many jobs ago finds no channel anyway. */
const MAX_JOBS = 4_096;

export class AttemptFences {
  /** The oldest attempt that is not over. Oldest entry first. */
  readonly #oldest = new Map<string, number>();

  /** All attempts before `attempt` are over. Never goes back. */
  raise(jobId: string, attempt: number): void {
    const known = this.#oldest.get(jobId) ?? 0;
    this.#oldest.delete(jobId);
    this.#oldest.set(jobId, Math.max(known, attempt));
    if (this.#oldest.size <= MAX_JOBS) return;
    for (const first of this.#oldest.keys()) {
      this.#oldest.delete(first);
      return;
    }
  }

  isOver(id: { readonly jobId: string; readonly executionAttempt: number }): boolean {
    return id.executionAttempt < (this.#oldest.get(id.jobId) ?? 0);
  }

  overError(jobId: string): WeirError {
    const oldest = this.#oldest.get(jobId) ?? 0;
    return new WeirError({
      code: "ABORTED",
      domain: "internal",
      message: `The execution attempts of job ${jobId} before ${oldest} are over on this worker.`,
      retry: true,
      ids: { job: jobId },
    });
  }
}
