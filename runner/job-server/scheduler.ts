/** Runs jobs on the registered workers, each on the engine that it needs. */
import type { JobId } from "../base/ids.ts";
import { BlockingExecution, type BlockingExecutionInit } from "./blocking-execution.ts";
import { type Execution, requiresStreaming } from "./executor-selection.ts";
import type { JobExecutor, JobObserver, JobOutcome, JobProgress, JobRun } from "./job-executor.ts";
import { StreamingExecution, type StreamingExecutionInit } from "./streaming-execution.ts";

export type SchedulerInit = BlockingExecutionInit & StreamingExecutionInit;

export class Scheduler implements JobExecutor {
  readonly #init: SchedulerInit;
  readonly #jobs = new Map<JobId, Execution>();

  constructor(init: SchedulerInit) {
    this.#init = init;
  }

  async execute(run: JobRun, observer: JobObserver): Promise<JobOutcome> {
    const isStreaming = requiresStreaming(run.graph, run.settings);
    if (!isStreaming && run.settings.checkpoints !== undefined)
      observer.message("BASIC", "The job is bounded and runs stage by stage: --checkpointing_interval has no effect.");
    const execution: Execution = isStreaming
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

  drain(jobId: JobId): boolean {
    const execution = this.#jobs.get(jobId);
    if (execution?.drain === undefined) return false;
    execution.drain();
    return true;
  }

  progress(jobId: JobId): JobProgress | undefined {
    return this.#jobs.get(jobId)?.progress;
  }

  async close(): Promise<void> {
    const executions = [...this.#jobs.values()];
    for (const execution of executions) execution.end({ kind: "cancelled" });
    await Promise.all(executions.map((execution) => execution.released));
  }
}
