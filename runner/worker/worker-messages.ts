/** Between the worker protocol's messages and the worker's own types. */
import { Struct } from "../../proto/gen/google/protobuf/struct.ts";
import type { OpenJob, PartitionRef as PartitionRefMessage, SealedDataset } from "../../proto/gen/worker.ts";
import type { DatasetId, JobId, TaskAttemptId, WorkerId } from "../base/ids.ts";
import { decodeExecutionGraph } from "../graph/execution-graph-json.ts";
import type { PartitionRef } from "./task/ports.ts";
import type { JobDescription } from "./worker-job.ts";
import type { TaskResult } from "./task/task-environment.ts";

export function partitionRefOf(jobId: JobId, ref: PartitionRefMessage): PartitionRef {
  return {
    jobId,
    datasetId: ref.datasetId as DatasetId,
    index: ref.index,
    attemptId: ref.taskAttemptId as TaskAttemptId,
    workerId: ref.workerId as WorkerId,
    exchangeAddress: ref.exchangeAddress,
    byteLength: Number(ref.byteLength),
    elementCount: Number(ref.elementCount),
  };
}

export function partitionRefMessage(ref: PartitionRef): PartitionRefMessage {
  return {
    datasetId: ref.datasetId,
    index: ref.index,
    taskAttemptId: ref.attemptId,
    workerId: ref.workerId,
    exchangeAddress: ref.exchangeAddress,
    byteLength: BigInt(ref.byteLength),
    elementCount: BigInt(ref.elementCount),
  };
}

export function sealedOf(result: TaskResult): SealedDataset[] {
  return result.sealed.map(({ datasetId, partitions, restrictionSizes }) => ({
    datasetId,
    partitions: partitions.map((partition) => ({
      index: partition.index,
      byteLength: BigInt(partition.byteLength),
      elementCount: BigInt(partition.elementCount),
      restrictionSize: restrictionSizes[0] ?? 0,
    })),
  }));
}

/** @throws Error (any) when the job server's graph or settings cannot be read: it is of another version. */
export function jobDescriptionOf(message: OpenJob): JobDescription {
  const settings = JSON.parse(new TextDecoder().decode(message.settings)) as {
    readonly maxBundleElements: number;
    readonly maxBundleTimeMs?: number;
    readonly barriersBlock?: boolean;
    readonly streaming?: boolean;
    readonly loopback: boolean;
    readonly environmentWaitMs?: number;
  };
  return {
    jobId: message.jobId as JobId,
    jobName: message.jobName,
    graph: decodeExecutionGraph(message.executionGraph),
    pipelineOptions: Struct.unwrap(Struct.decode(message.pipelineOptions)),
    retrievalToken: message.retrievalToken,
    artifactAddress: message.artifactAddress,
    maxParallelism: message.maxParallelism,
    sdkWorkerParallelism: Math.max(1, message.sdkWorkerParallelism),
    maxBundleElements: settings.maxBundleElements,
    maxBundleTimeMs: Math.max(1, settings.maxBundleTimeMs ?? 1_000),
    barriersBlock: settings.barriersBlock ?? true,
    streaming: settings.streaming ?? false,
    loopback: settings.loopback,
    environmentWaitMs: settings.environmentWaitMs,
  };
}
