/**
 * The tasks of a job between two restarts as its checkpoints see them: what a manifest says of them, and their names for
 * people. Pure.
 */
import type { CheckpointAck } from "../../proto/gen/worker.ts";
import type { VertexId } from "../base/ids.ts";
import { DEFAULT_MAX_PARALLELISM } from "../base/limits.ts";
import type { TaskReport } from "../checkpoint/checkpoint-observer.ts";
import type { CheckpointRecord, SnapshotFileRef, SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import type { CheckpointCoordinatorInit } from "./checkpoint-coordinator-init.ts";
import type { DeployedRegion } from "./region-attempts.ts";
import { type PlacedTask, type StreamingPlan, type TaskKey, taskKey } from "./streaming-plan.ts";

export interface CheckpointAttempt {
  /** The newest one of its regions: greater than all that have ended. */
  readonly executionAttempt: number;
  readonly tasks: ReadonlyMap<TaskKey, PlacedTask>;
  readonly regions: readonly DeployedRegion[];
}

export function checkpointAttempt(plan: StreamingPlan, regions: readonly DeployedRegion[]): CheckpointAttempt {
  return {
    executionAttempt: Math.max(...regions.map(({ executionAttempt }) => executionAttempt)),
    tasks: new Map(plan.tasks.map((task) => [task.key, task])),
    regions,
  };
}

/** The execution attempt that a vertex' tasks are in; undefined for one that the job has not. */
export function attemptOf({ regions }: CheckpointAttempt, vertexId: string): number | undefined {
  return regions.find(({ vertexIds }) => vertexIds.has(vertexId as VertexId))?.executionAttempt;
}

/** A checkpoint that all tasks have acknowledged. */
export interface AcknowledgedCheckpoint {
  readonly checkpointId: number;
  readonly triggeredMs: number;
  readonly completedMs: number;
  /** By TaskKey, oldest first. */
  readonly files: ReadonlyMap<string, readonly SnapshotFileRef[]>;
  readonly record: CheckpointRecord;
}

type ManifestFacts = Pick<CheckpointCoordinatorInit, "run" | "graphFingerprint" | "channelFingerprint" | "stateTables">;

export function manifestOf(
  { run, graphFingerprint, channelFingerprint, stateTables }: ManifestFacts,
  { executionAttempt, tasks }: CheckpointAttempt,
  { files, record, ...checkpoint }: AcknowledgedCheckpoint,
): SnapshotManifest {
  return {
    jobId: run.jobId,
    jobName: run.jobName,
    ...checkpoint,
    executionAttempt,
    graphFingerprint,
    channelFingerprint,
    maxParallelism: run.settings.maxParallelism ?? DEFAULT_MAX_PARALLELISM,
    tasks: [...tasks.values()].map(({ key, deployment }) => ({
      vertexId: deployment.vertexId,
      subtaskIndex: deployment.subtaskIndex,
      parallelism: deployment.parallelism,
      files: [...(files.get(key) ?? [])],
    })),
    ...stateTables,
    record,
  };
}

/** What the task has written, and what of earlier checkpoints it needs, oldest first. */
export function filesOfAck({ files }: CheckpointAck): SnapshotFileRef[] {
  return files.map(({ path, byteLength, sha256, inFlight }) => ({
    path,
    byteLength: Number(byteLength),
    sha256,
    ...(inFlight ? { inFlight } : {}),
  }));
}

/** @param files of the acknowledgment */
export function reportOf(
  attempt: CheckpointAttempt,
  ack: CheckpointAck,
  files: readonly SnapshotFileRef[],
): TaskReport {
  return {
    name: namesOf(attempt, [taskKey(ack.vertexId, ack.subtaskIndex)]),
    files,
    alignmentMs: Number(ack.alignmentMs),
    commitWaitMs: Number(ack.commitWaitMs),
    writeMs: Number(ack.writeMs),
    inFlightBytes: Number(ack.inFlightBytes),
    unaligned: ack.unaligned,
    waitedFor: ack.waitedFor,
  };
}

/** A few of the tasks by name, and how many more there are. */
export function namesOf(attempt: CheckpointAttempt | undefined, keys: readonly string[]): string {
  const names = keys.map((key) => {
    const task = attempt?.tasks.get(key as TaskKey);
    return task === undefined ? key : `subtask ${task.deployment.subtaskIndex} of ${task.vertex.name}`;
  });
  return names.length > 3 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");
}
