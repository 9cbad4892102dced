/** Where a job's savepoints go by default, and whether it can have any. */
import { randomHex } from "../base/clock.ts";
import type { WeirError } from "../base/errors.ts";
import type { JobId } from "../base/ids.ts";
import { locationIn } from "../storage/checkpoint-storage.ts";
import type { JobRun } from "./job-executor.ts";
import type { JobSettings } from "./job-settings.ts";
import { refused } from "./savepoints.ts";

type SavepointOf = Pick<JobRun, "jobId"> & { readonly settings: Pick<JobSettings, "checkpoints"> };

/**
 * Where a savepoint goes for which the user names no folder: beside the job's checkpoints, whose own folder is deleted
 * with the job.
 * @param local the job server's own folder for savepoints; undefined where it is temporary
 * @throws WeirError FAILED_PRECONDITION when there is no place that lasts
 */
export function defaultSavepointPath({ jobId, settings }: SavepointOf, local: string | undefined): string {
  const root = settings.checkpoints?.storageDirectory;
  const folder = root === undefined ? local : locationIn(root, "savepoints");
  if (folder === undefined)
    throw refused(
      "The job server's data directory is temporary: a savepoint in it would be gone with the server.",
      "Name a folder for it, or start the server with --data-dir.",
    );
  return locationIn(folder, `${jobId}-${randomHex(4)}`);
}

/** Of a streaming job. */
export function noCheckpoints(jobId: JobId): WeirError {
  return refused(
    `Job ${jobId} takes no checkpoints, so it can have no savepoint.`,
    "Submit it with --checkpointing_interval: a long one, such as 86400000, where savepoints are all that is wanted.",
  );
}
