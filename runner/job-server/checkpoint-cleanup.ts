/** Deletes the files of a job's checkpoints that nothing can need any more. */
import { orphanedFiles } from "../checkpoint/orphaned-files.ts";
import type { RetainedCheckpoints, Retirement } from "../checkpoint/retained-checkpoints.ts";
import { attemptOf, type CheckpointAttempt } from "./checkpoint-attempt.ts";
import type { CheckpointCoordinatorInit } from "./checkpoint-coordinator-init.ts";

type CleanupInit = Pick<CheckpointCoordinatorInit, "run" | "directory" | "log">;

export class CheckpointCleanup {
  readonly #init: CleanupInit;
  readonly #retained: RetainedCheckpoints;
  /** After the first checkpoint of this one orphaned files were deleted. */
  #cleanedAttempt = 0;

  constructor(init: CleanupInit, retained: RetainedCheckpoints) {
    this.#init = init;
    this.#retained = retained;
  }

  /** Never rejects. @param attempt that the checkpoint was of which has retired the others */
  async delete({ manifests, files }: Retirement, attempt: CheckpointAttempt): Promise<void> {
    const { directory, log, run } = this.#init;
    try {
      await directory.delete([...manifests.map(({ checkpointId }) => directory.manifestPath(checkpointId)), ...files]);
      await this.#deleteOrphans(attempt);
    } catch (thrown) {
      log.warn({ job: run.jobId, err: thrown }, "files of earlier checkpoints could not be deleted");
    }
  }

  /** Once after each restart, with its first checkpoint: the attempts that it has ended write no more. */
  async #deleteOrphans(attempt: CheckpointAttempt): Promise<void> {
    if (this.#cleanedAttempt >= attempt.executionAttempt) return;
    const { directory, log, run } = this.#init;
    const locations = await directory.locations();
    const kept = this.#retained.newestFirst;
    const orphans = orphanedFiles({ locations, kept, attemptOf: (vertexId) => attemptOf(attempt, vertexId) });
    if (orphans.length > 0) {
      await directory.delete(orphans);
      log.info({ job: run.jobId, files: orphans.length }, "files that no checkpoint needs are deleted");
    }
    this.#cleanedAttempt = attempt.executionAttempt;
  }
}
