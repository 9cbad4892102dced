/** What one task attempt of a bounded job is given, and what it gives: plain data and ports. */
import type { Clock } from "../../base/clock.ts";
import type { DatasetId, JobId, TaskAttemptId } from "../../base/ids.ts";
import type { Limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { ExecutionGraph, VertexSpec } from "../../graph/execution-graph.ts";
import type { SideInputStore } from "../../state/side-input-store.ts";
import type { HarnessConnection } from "./harness-connection.ts";
import type { WindowMerger } from "./merge-windows.ts";
import type { DatasetWriter, PartitionReader, PartitionRef, SealedPartition } from "./ports.ts";

/** What a task of a job runs with. */
export interface TaskEnvironment {
  readonly jobId: JobId;
  readonly graph: ExecutionGraph;
  readonly maxParallelism: number;
  readonly maxBundleElements: number;
  readonly laneCount: number;
  readonly splitAfterMs: number;
  readonly superviseMs: number;
  readonly maxBundleTimeMs: number;
  readonly limits: Limits;
  readonly spillDirectory: string;
  readonly reader: PartitionReader;
  readonly sideInputs: SideInputStore;
  readonly clock: Clock;
  readonly log: Log;
  openDataset(datasetId: DatasetId, attemptId: TaskAttemptId, partitions: number): DatasetWriter;
  harness(environmentId: string, lane: number, signal: AbortSignal): Promise<HarnessConnection>;
  /** The id under which a harness of this worker may ask for the stage's descriptor. */
  descriptorId(vertexId: string): string;
  windowMerger(vertex: VertexSpec): WindowMerger | undefined;
}

export interface TaskDeployment {
  readonly attemptId: TaskAttemptId;
  readonly vertex: VertexSpec;
  readonly mainInput: readonly PartitionRef[];
  readonly sideInput: readonly PartitionRef[];
  readonly outputPartitions: Readonly<Record<DatasetId, number>>;
}

export interface TaskResult {
  readonly sealed: readonly {
    readonly datasetId: DatasetId;
    readonly partitions: readonly SealedPartition[];
    readonly restrictionSizes: readonly number[];
  }[];
}
