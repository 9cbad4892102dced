/**
 * Which execution attempts of which regions of jobs are over on this worker, so that what comes late for one is refused.
 */
import { WeirError } from "../../base/errors.ts";

/** Regions that are remembered; a message of one that ended so many regions ago finds no channel anyway. */
const MAX_REGIONS = 4_096;

export interface RegionId {
  readonly jobId: string;
  readonly region: number;
}

export class AttemptFences {
  /** The oldest attempt that is not over. Oldest entry first. */
  readonly #oldest = new Map<string, number>();

  /** All attempts before `attempt` are over. Never goes back. */
  raise(id: RegionId, attempt: number): void {
    const key = keyOf(id);
    const known = this.#oldest.get(key) ?? 0;
    this.#oldest.delete(key);
    this.#oldest.set(key, Math.max(known, attempt));
    if (this.#oldest.size <= MAX_REGIONS) return;
    for (const first of this.#oldest.keys()) {
      this.#oldest.delete(first);
      return;
    }
  }

  isOver(id: RegionId & { readonly executionAttempt: number }): boolean {
    return id.executionAttempt < (this.#oldest.get(keyOf(id)) ?? 0);
  }

  overError(id: RegionId): WeirError {
    const oldest = this.#oldest.get(keyOf(id)) ?? 0;
    return new WeirError({
      code: "ABORTED",
      domain: "internal",
      message: `The execution attempts of job ${id.jobId} before ${oldest} are over on this worker.`,
      retry: true,
      ids: { job: id.jobId },
    });
  }
}

function keyOf({ jobId, region }: RegionId): string {
  return `${jobId}/${region}`;
}
