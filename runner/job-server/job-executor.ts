/**
 * The port between the job service and whatever runs jobs. The job service owns a job's states, messages and history;
 * the executor owns its execution and reports through the observer. Neither reaches into the other.
 */
import type { JobId } from "../base/ids.ts";
import type { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import type { CheckpointRecord } from "../checkpoint/snapshot-manifest.ts";
import type { ExecutionGraph } from "../graph/execution-graph.ts";
import type { JobSettings } from "./job-settings.ts";
import type { OpenedSavepoint } from "./open-savepoint.ts";
import type { SavepointResult } from "./savepoints.ts";
import type { TaskProgress } from "./stream-task-table.ts";

/** Beam's JobMessage.MessageImportance, by name. */
export type MessageImportance = "DEBUG" | "DETAILED" | "BASIC" | "WARNING" | "ERROR";

const IMPORTANCES: readonly MessageImportance[] = ["DEBUG", "DETAILED", "BASIC", "WARNING", "ERROR"];

/** The name of a number of the proto enum; what is unknown counts as BASIC. */
export function messageImportance(wireNumber: number): MessageImportance {
  return IMPORTANCES[wireNumber - 1] ?? "BASIC";
}

/** The number of the proto enum. */
export function importanceNumber(importance: MessageImportance): 1 | 2 | 3 | 4 | 5 {
  return (IMPORTANCES.indexOf(importance) + 1) as 1 | 2 | 3 | 4 | 5;
}

/** Everything that is needed to execute one job. Plain data, never changed. */
export interface JobRun {
  readonly jobId: JobId;
  readonly jobName: string;
  /** Its environments' dependencies are the staged ones: files in the artifact store. */
  readonly graph: ExecutionGraph;
  readonly settings: JobSettings;
  /** The options as submitted, under their `beam:option:NAME:v1` keys. */
  readonly pipelineOptions: Readonly<Record<string, unknown>>;
  /** The same as an encoded google.protobuf.Struct. */
  readonly pipelineOptionsBytes: Uint8Array;
  /** For ProvisionInfo. */
  readonly retrievalToken: string;
  /** HOST:PORT of the ArtifactRetrievalService. */
  readonly artifactAddress: string;
  /** What the job goes on from, if it is not to begin anew. */
  readonly savepoint?: OpenedSavepoint;
  /** Set when an earlier server ran the job: it goes on from its own checkpoints. */
  readonly takeUp?: TakeUp;
}

/** How a job stood when its last server ended. */
export interface TakeUp {
  /** Of servers that took it up without a complete checkpoint since, this one included: from 1. */
  readonly count: number;
  /** It had a complete checkpoint: to begin again would repeat results. */
  readonly checkpointed: boolean;
  /** Its sources had been told to end. */
  readonly draining: boolean;
}

/** For people. */
export interface CheckpointCounts {
  readonly completed: number;
  readonly aborted: number;
  /** Of the last complete one. */
  readonly lastDurationMs: number | undefined;
  /** How the newest complete one went, though an earlier server may have taken it. */
  readonly lastRecord: CheckpointRecord | undefined;
}

/** How far a job has come, for people. */
export interface JobProgress {
  /** Of a streaming job. */
  readonly tasks: readonly TaskProgress[];
  /** Of a job that runs stage by stage. */
  readonly stages?: readonly StageProgress[];
  /** Undefined where the job takes none. */
  readonly checkpoints: CheckpointCounts | undefined;
  /** Those that stand still or run for very long. */
  readonly slowBundles?: readonly SlowBundle[];
}

/** A bundle that stands still or runs for very long. */
export interface SlowBundle {
  readonly vertexId: string;
  readonly bundleId: string;
  readonly harnessId: string;
  readonly ageMs: number;
  /** Since it was last seen to make progress. */
  readonly quietMs: number;
  /** Where its harness says that it stands, or why that is not known. */
  readonly stacks: string;
}

/** A stage of a job that runs stage by stage. */
export interface StageProgress {
  readonly vertexId: string;
  readonly vertexName: string;
  /** Undefined while its input is not sealed. */
  readonly subtasks: number | undefined;
  readonly running: number;
  readonly finished: number;
  /** 0 when no task of it runs. */
  readonly oldestTaskAgeMs: number;
}

/** A job's checkpoint folder, and whether another job server has taken it over. */
export type CopyDirectory = Pick<CheckpointDirectory, "path" | "isSuperseded">;

/** How the executor tells about a job. All calls but one are synchronous and cheap; after the job's outcome they do nothing. */
export interface JobObserver {
  message(importance: MessageImportance, text: string): void;
  /** The first task runs: STARTING becomes RUNNING. Idempotent. */
  running(): void;
  /**
   * Before the job's first checkpoint is complete, and again if it fails: puts beside the checkpoints in `directory` what
   * another job server needs to go on with the job. @throws WeirError naming the file that cannot be written
   */
  keepCopy(directory: CopyDirectory): Promise<void>;
  /** A checkpoint is complete: whatever happens, the job does not go back behind it. */
  checkpointed(): void;
  /** The job server before has completed a checkpoint, whether it had time to say so or not: this take-up is the first since. */
  formerlyCheckpointed(): void;
  /** The job's metrics so far, each an encoded MonitoringInfo; replaces what was reported before. */
  metrics(attempted: readonly Uint8Array[], committed: readonly Uint8Array[]): void;
}

export type JobOutcome =
  | { readonly kind: "done" }
  /** Done, after its sources were told to end. */
  | { readonly kind: "drained" }
  /** `message` is what the client shows: the user's own traceback where there is one. */
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "cancelled" }
  /** Its job server ends, and another one is to go on with it: nothing of it is removed. */
  | { readonly kind: "suspended" };

export interface JobExecutor {
  /** Starts executing; resolves when the job is terminal and holds nothing any more. Never rejects for a failed job. */
  execute(run: JobRun, observer: JobObserver): Promise<JobOutcome>;
  /** Asks for the job's end; `execute` then resolves. Does nothing for a job that is unknown or over. */
  cancel(jobId: JobId): Promise<void>;
  /**
   * Stops a job as a crash of the job server would; `execute` then resolves as suspended.
   * @returns false for a job that could not go on from a checkpoint: it runs as before
   */
  suspend(jobId: JobId): boolean;
  /**
   * Asks the job's sources to end; `execute` then resolves as drained when what they have read is processed.
   * @returns false for a job that cannot be drained: it has bounded input only, and ends by itself, or it is unknown.
   */
  drain(jobId: JobId): boolean;
  /**
   * Takes a savepoint of a running job. With `stop`, `execute` then resolves as done, and nothing behind the savepoint's
   * barrier has been processed.
   * @param path of the folder, as workers see it; undefined: one is chosen
   * @throws WeirError FAILED_PRECONDITION for a job that can have none, and why it was given up: the job then goes on
   */
  savepoint(jobId: JobId, path: string | undefined, stop: boolean): Promise<SavepointResult>;
  /** How far the tasks of a job have come; undefined for an unknown one. */
  progress(jobId: JobId): JobProgress | undefined;
  /** Ends all jobs as cancelled. Idempotent. */
  close(): Promise<void>;
}
