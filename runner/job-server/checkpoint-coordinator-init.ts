/** What the checkpoint coordinator of a job is put together from. */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import type { PipelineFacts } from "../checkpoint/match-savepoint.ts";
import type { CheckpointRemovals } from "./checkpoint-removals.ts";
import type { CheckpointSettings } from "./checkpoint-settings.ts";
import type { JobObserver, JobRun } from "./job-executor.ts";
import type { JobWorkers } from "./job-workers.ts";

export interface CheckpointCoordinatorInit {
  readonly run: JobRun;
  readonly settings: CheckpointSettings;
  readonly directory: CheckpointDirectory;
  /** Of the plan, lower-case hex. */
  readonly graphFingerprint: string;
  /** Of its stages and channels alone. */
  readonly channelFingerprint: string;
  /** What the tasks keep as rows, for readers of the manifest. */
  readonly stateTables: PipelineFacts;
  readonly workers: JobWorkers;
  /** The job has come further than before. */
  readonly onComplete: () => void;
  /** Too many checkpoints have failed in a row for the job to go on like this. `cause`: a sentence without its full stop. */
  readonly onIntolerable: (cause: string) => void;
  /** Another job server has the job: it is over here, and nothing of it is touched any more. */
  readonly onSuperseded: (message: string) => void;
  readonly removals: CheckpointRemovals;
  readonly observer: JobObserver;
  readonly clock: Clock;
  readonly log: Log;
}
