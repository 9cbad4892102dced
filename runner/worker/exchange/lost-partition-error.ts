/** A sealed partition that a task needs is not to be had: its producer has to run again. */
import { type ErrorCode, WeirError } from "../../base/errors.ts";
import type { PartitionRef } from "../task/ports.ts";

export class LostPartitionError extends WeirError {
  /** What was lost. */
  readonly ref: PartitionRef;

  constructor(ref: PartitionRef, reason: string, code: ErrorCode, cause?: unknown) {
    super({
      code,
      domain: "internal",
      message:
        `Partition ${ref.index} of dataset ${ref.datasetId} by task attempt ${ref.attemptId} ` +
        `is lost with worker ${ref.workerId} (${ref.exchangeAddress}): ${reason}`,
      retry: true,
      ids: { job: ref.jobId, dataset: ref.datasetId, task: ref.attemptId, worker: ref.workerId },
      cause,
    });
    this.ref = ref;
  }
}
