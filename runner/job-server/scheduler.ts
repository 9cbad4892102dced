/** Runs jobs on the registered workers, each on the engine that it needs. */
import { WeirError } from "../base/errors.ts";
import type { JobId } from "../base/ids.ts";
import { DEFAULT_STUCK_AFTER_MS } from "../base/limits.ts";
import { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import { readManifests } from "../checkpoint/read-manifests.ts";
import { locationIn } from "../storage/checkpoint-storage.ts";
import { BlockingExecution, type BlockingExecutionInit } from "./blocking-execution.ts";
import { CheckpointRemovals } from "./checkpoint-removals.ts";
import { type Execution, requiresStreaming } from "./executor-selection.ts";
import type { JobExecutor, JobObserver, JobOutcome, JobProgress, JobRun } from "./job-executor.ts";
import { openSavepoint } from "./open-savepoint.ts";
import { boundTo } from "./restore-points.ts";
import type { SavepointResult } from "./savepoints.ts";
import { SlowBundleTable } from "./slow-bundle-table.ts";
import { parallelismFor } from "./streaming-plan.ts";
import { StreamingExecution } from "./streaming-execution.ts";
import type { StreamingExecutionInit } from "./streaming-execution-init.ts";

export type SchedulerInit = BlockingExecutionInit & StreamingExecutionInit;

export class Scheduler implements JobExecutor {
  readonly #init: SchedulerInit;
  readonly #removals: CheckpointRemovals;
  readonly #jobs = new Map<JobId, { readonly execution: Execution; readonly slowBundles: SlowBundleTable }>();
  /** Before their execution began: while a savepoint was read. */
  readonly #cancelled = new Set<JobId>();

  constructor(init: SchedulerInit) {
    this.#removals = new CheckpointRemovals(init);
    this.#init = { ...init, removals: this.#removals };
  }

  async execute(run: JobRun, observer: JobObserver): Promise<JobOutcome> {
    const isStreaming = requiresStreaming(run.graph, run.settings);
    if (!isStreaming && run.settings.checkpoints !== undefined)
      observer.message("BASIC", "The job is bounded and runs stage by stage: --checkpointing_interval has no effect.");
    let restored = run;
    if (run.settings.savepointPath !== undefined) {
      try {
        restored =
          (await withOwnCheckpoint(run, this.#init.checkpointDirectory)) ??
          (await withSavepoint(run, run.settings.savepointPath, isStreaming, observer));
      } catch (thrown) {
        this.#cancelled.delete(run.jobId);
        return { kind: "failed", message: WeirError.from(thrown).message };
      }
      if (this.#cancelled.delete(run.jobId)) return { kind: "cancelled" };
    }
    const execution: Execution = isStreaming
      ? new StreamingExecution(this.#init, restored, observer)
      : new BlockingExecution(this.#init, run, observer);
    const { registry, stuckAfterMs = DEFAULT_STUCK_AFTER_MS } = this.#init;
    const slowBundles = new SlowBundleTable(run, observer, stuckAfterMs);
    this.#jobs.set(run.jobId, { execution, slowBundles });
    registry.listen(slowBundles);
    try {
      return await execution.run();
    } finally {
      registry.unlisten(slowBundles);
      this.#jobs.delete(run.jobId);
    }
  }

  async cancel(jobId: JobId): Promise<void> {
    const execution = this.#jobs.get(jobId)?.execution;
    if (execution === undefined) this.#cancelled.add(jobId);
    execution?.end({ kind: "cancelled" });
    await execution?.released;
  }

  suspend(jobId: JobId): boolean {
    return this.#jobs.get(jobId)?.execution.suspend?.() ?? false;
  }

  drain(jobId: JobId): boolean {
    const execution = this.#jobs.get(jobId)?.execution;
    if (execution?.drain === undefined) return false;
    execution.drain();
    return true;
  }

  async savepoint(jobId: JobId, path: string | undefined, stop: boolean): Promise<SavepointResult> {
    const execution = this.#jobs.get(jobId)?.execution;
    if (execution?.savepoint !== undefined) return execution.savepoint(path, stop);
    throw new WeirError({
      code: "FAILED_PRECONDITION",
      domain: "user",
      message:
        execution === undefined
          ? `Job ${jobId} is not running.`
          : `Job ${jobId} is a batch job: it runs stage by stage and has no snapshot to go on from.`,
      hint: execution === undefined ? "Ask again when it is." : "Savepoints are of jobs that ran with --streaming.",
    });
  }

  progress(jobId: JobId): JobProgress | undefined {
    const job = this.#jobs.get(jobId);
    const progress = job?.execution.progress;
    return job === undefined || progress === undefined
      ? undefined
      : { ...progress, slowBundles: job.slowBundles.bundles };
  }

  async close(): Promise<void> {
    const executions = [...this.#jobs.values()].map(({ execution }) => execution);
    for (const execution of executions) execution.end({ kind: "cancelled" });
    await Promise.all(executions.map((execution) => execution.released));
    this.#removals.close();
  }
}

/** A job that was taken up needs its savepoint no more once it has a checkpoint of its own; its key groups stay. */
async function withOwnCheckpoint(run: JobRun, checkpointDirectory: string): Promise<JobRun | undefined> {
  const { takeUp, settings, jobId } = run;
  if (takeUp === undefined || settings.checkpoints === undefined) return undefined;
  const folder = locationIn(settings.checkpoints.storageDirectory ?? checkpointDirectory, jobId);
  const directory = new CheckpointDirectory(folder);
  const { checkpointIds } = await directory.contents();
  const newest = (await readManifests(directory, checkpointIds)).manifests.at(-1);
  return newest && { ...run, settings: { ...settings, maxParallelism: newest.maxParallelism } };
}

/** The snapshot's number of key groups wins over the option: its rows are cut by it. */
async function withSavepoint(run: JobRun, path: string, isStreaming: boolean, observer: JobObserver): Promise<JobRun> {
  if (!isStreaming)
    throw new WeirError({
      code: "FAILED_PRECONDITION",
      domain: "user",
      message: "The job is bounded and runs stage by stage: it cannot go on from --savepoint_path.",
      hint: "Add --streaming, as the job that took the savepoint ran.",
    });
  const { settings } = run;
  const savepoint = await openSavepoint(path, run.graph, settings.allowNonRestoredState);
  const { maxParallelism, checkpointId, jobName } = savepoint.manifest;
  if (settings.parallelism !== undefined && settings.parallelism > maxParallelism)
    throw new WeirError({
      code: "INVALID_ARGUMENT",
      domain: "user",
      message: `Option --parallelism is ${settings.parallelism}, and ${path} has ${maxParallelism} key groups: no more subtasks can share them.`,
    });
  observer.message("BASIC", `The job goes on from checkpoint ${checkpointId} of "${jobName}" in ${path}.`);
  if (settings.maxParallelism !== undefined && settings.maxParallelism !== maxParallelism)
    observer.message(
      "WARNING",
      `Option --max_parallelism is ${settings.maxParallelism}; the snapshot's ${maxParallelism} counts.`,
    );
  const bound = boundTo(savepoint.manifest);
  const parallelism = bound === undefined ? undefined : parallelismFor(run.graph, settings, bound);
  if (parallelism !== undefined && settings.parallelism !== undefined && settings.parallelism !== parallelism)
    observer.message(
      "WARNING",
      `Option --parallelism is ${settings.parallelism}; the snapshot's ${parallelism} counts, since it is an unaligned checkpoint.`,
    );
  for (const changed of savepoint.match.changed) observer.message("WARNING", changed);
  for (const dropped of savepoint.match.notRestored)
    observer.message("WARNING", `${dropped} It is dropped, as --allow_non_restored_state asks.`);
  return { ...run, settings: { ...settings, maxParallelism }, savepoint };
}
