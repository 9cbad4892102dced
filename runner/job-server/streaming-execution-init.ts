/** What the execution of a streaming job is put together from. */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import type { CheckpointRemovals } from "./checkpoint-removals.ts";
import type { WorkerDirectory } from "./job-workers.ts";

export interface StreamingExecutionInit {
  readonly registry: WorkerDirectory;
  /** A job without any worker waits so long for one before it fails. */
  readonly workerWaitMs: number;
  /** Workers that the server starts, and starts again, itself. */
  readonly localWorkerCount?: number;
  /** Of all jobs that do not say where: a local directory. */
  readonly checkpointDirectory: string;
  /** Of savepoints that are given no folder: one that lasts; undefined where there is none. */
  readonly savepointDirectory?: string | undefined;
  /** Opens a job's directory of checkpoints by its absolute path; default: the local one. */
  readonly openCheckpoints?: (path: string) => CheckpointDirectory;
  /** Of the folders of all jobs. */
  readonly removals?: CheckpointRemovals;
  /** A bundle, or a watermark while input waits, that has not moved for so long is told of. Default: 5 minutes. */
  readonly stuckAfterMs?: number;
  /** Of the job's metrics; what does not fit is left out. Default: that of the metrics themselves. */
  readonly metricsBytes?: number;
  readonly clock: Clock;
  readonly log: Log;
}
