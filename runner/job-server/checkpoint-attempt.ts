/**
 * The tasks of one execution attempt as its checkpoints see them: what a manifest says of them, and their names for
 * people. Pure.
 */
import { createHash } from "node:crypto";
import type { WorkerId } from "../base/ids.ts";
import { DEFAULT_MAX_PARALLELISM } from "../base/limits.ts";
import type { ExecutionGraph } from "../graph/execution-graph.ts";
import { encodeExecutionGraph } from "../graph/execution-graph-json.ts";
import type { CheckpointRecord, SnapshotFileRef, SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import type { CheckpointCoordinatorInit } from "./checkpoint-coordinator-init.ts";
import type { PlacedTask, TaskKey } from "./streaming-plan.ts";

type Environments = ExecutionGraph["environments"];

export interface CheckpointAttempt {
  readonly executionAttempt: number;
  readonly tasks: ReadonlyMap<TaskKey, PlacedTask>;
  /** Where barriers begin. */
  readonly sourceWorkers: ReadonlySet<WorkerId>;
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

/** Of the plan, lower-case hex. Where its staged files are is no part of what a snapshot fits to. */
export function fingerprintOf(graph: ExecutionGraph): string {
  const environments = Object.entries(graph.environments).map(([id, spec]) => [id, { ...spec, dependencies: [] }]);
  return createHash("sha256")
    .update(encodeExecutionGraph({ ...graph, environments: Object.fromEntries(environments) as Environments }))
    .digest("hex");
}

export function manifestOf(
  { run, graphFingerprint, stateTables }: Pick<CheckpointCoordinatorInit, "run" | "graphFingerprint" | "stateTables">,
  { executionAttempt, tasks }: CheckpointAttempt,
  { files, record, ...checkpoint }: AcknowledgedCheckpoint,
): SnapshotManifest {
  return {
    jobId: run.jobId,
    jobName: run.jobName,
    ...checkpoint,
    executionAttempt,
    graphFingerprint,
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

/** A few of the tasks by name, and how many more there are. */
export function namesOf(attempt: CheckpointAttempt | undefined, keys: readonly string[]): string {
  const names = keys.map((key) => {
    const task = attempt?.tasks.get(key as TaskKey);
    return task === undefined ? key : `subtask ${task.deployment.subtaskIndex} of ${task.vertex.name}`;
  });
  return names.length > 3 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");
}
