/** Tells workers to run the tasks of one region of a streaming job. */
import { present } from "../base/assert.ts";
import type { JobId } from "../base/ids.ts";
import type { JobWorkers } from "./job-workers.ts";
import type { PlannedRegion, StreamingPlan } from "./streaming-plan.ts";

export interface RegionDeployment {
  readonly jobId: JobId;
  readonly plan: StreamingPlan;
  readonly region: PlannedRegion;
  readonly executionAttempt: number;
  /** Where tasks write their snapshots; empty: they take none. */
  readonly checkpointDirectory: string;
}

/** @param workers that know the job, those of the region among them */
export function deployRegion(
  workers: Pick<JobWorkers, "opened">,
  { jobId, plan, region, executionAttempt, checkpointDirectory }: RegionDeployment,
): void {
  for (const [workerId, tasks] of region.byWorker) {
    const { taskCount, channelCount } = present(plan.loads.get(workerId), "the worker's load");
    workers.opened.get(workerId)?.send({
      $case: "deployStreamTasks",
      value: {
        jobId,
        executionAttempt,
        tasks: [...tasks],
        checkpointDirectory,
        region: region.index,
        workerTaskCount: taskCount,
        workerChannelCount: channelCount,
      },
    });
  }
}
