/** Runs jobs on the registered workers, each on the engine that it needs. */
import type { JobId } from "../base/ids.ts";
import { BlockingExecution, type BlockingExecutionInit } from "./blocking-execution.ts";
import { type Execution, requiresStreaming } from "./executor-selection.ts";
import type { JobExecutor, JobObserver, JobOutcome, JobRun } from "./job-executor.ts";
import { StreamingExecution } from "./streaming-execution.ts";

export type SchedulerInit = BlockingExecutionInit;

export class Scheduler implements JobExecutor {
  readonly #init: SchedulerInit;
  readonly #jobs = new Map<JobId, Execution>();

  constructor(init: SchedulerInit) {
    this.#init = init;
  }

  async execute(run: JobRun, observer: JobObserver): Promise<JobOutcome> {
    const execution: Execution = requiresStreaming(run.graph, run.settings)
      ? new StreamingExecution(this.#init, run, observer)
      : new BlockingExecution(this.#init, run, observer);
    this.#jobs.set(run.jobId, execution);
    try {
      return await execution.run();
    } finally {
      this.#jobs.delete(run.jobId);
    }
  }

  async cancel(jobId: JobId): Promise<void> {
    const execution = this.#jobs.get(jobId);
    execution?.end({ kind: "cancelled" });
    await execution?.released;
  }

  async close(): Promise<void> {
    const executions = [...this.#jobs.values()];
    for (const execution of executions) execution.end({ kind: "cancelled" });
    await Promise.all(executions.map((execution) => execution.released));
  }
}
