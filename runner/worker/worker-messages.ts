/** Between the worker protocol's messages and the worker's own types. */
import type { PartitionRef as PartitionRefMessage, SealedDataset } from "../../proto/gen/worker.ts";
import type { DatasetId, JobId, TaskAttemptId, WorkerId } from "../base/ids.ts";
import type { PartitionRef } from "./task/ports.ts";
import type { TaskResult } from "./task/task-runner.ts";

/** LogEntry severities as JobMessage importances (DEBUG 1, DETAILED 2, BASIC 3, WARNING 4, ERROR 5). */
export const IMPORTANCE_OF: Readonly<Record<string, number>> = {
  TRACE: 1,
  DEBUG: 1,
  INFO: 2,
  NOTICE: 3,
  WARN: 4,
  ERROR: 5,
  CRITICAL: 5,
};

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
