/**
 * The jobs of a server: prepared ones in memory, running ones with their executor, finished ones in the store. What
 * the Job API does, without the gRPC.
 *
 * Invariants: a preparation runs at most once; prepared jobs, and finished ones, are kept up to a number; what a job
 * staged is released when it is over.
 */
import { randomId, type Clock } from "../base/clock.ts";
import { userError, WeirError } from "../base/errors.ts";
import type { JobId, PreparationId } from "../base/ids.ts";
import type { ServerLimits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { encodeExecutionGraph } from "../graph/execution-graph-json.ts";
import type { BuildOptions } from "../graph/build-execution-graph.ts";
import type { ExecutionGraph } from "../graph/execution-graph.ts";
import { checkStorageRoot } from "../storage/open-storage.ts";
import type { ArtifactStaging, DependencySets } from "./artifact-staging.ts";
import type { ArtifactStore } from "./artifact-store.ts";
import { endJobs, type OnShutdown } from "./end-jobs.ts";
import { dependencySets, withStagedDependencies } from "./environment-dependencies.ts";
import { Job } from "./job.ts";
import { JobCopy } from "./job-copy.ts";
import { JobEventLog } from "./job-event-log.ts";
import type { JobExecutor, JobProgress } from "./job-executor.ts";
import { NO_METRICS } from "./job-metrics.ts";
import { type JobSettings, jobSettings } from "./job-settings.ts";
import { isTerminal, type JobState } from "./job-state.ts";
import type { JobStore, JobSummary } from "./job-store.ts";
import { type OptionValues, readOptions } from "./pipeline-options.ts";
import { resourceHintSentences } from "./resource-hints.ts";
import { storedSubmission } from "./recover-jobs.ts";
import type { SavepointResult } from "./savepoints.ts";
import { decodeOptions, nameOf, slugOf } from "./submitted-names.ts";
import { stagedChecksums, type StoredJobRun, type UnfinishedJob, withFilesAt } from "./take-up-jobs.ts";

export interface JobRegistryInit {
  readonly store: JobStore;
  readonly executor: JobExecutor;
  readonly staging: ArtifactStaging;
  readonly artifacts: Pick<ArtifactStore, "pathOf">;
  /** Of the artifact services, HOST:PORT. */
  readonly artifactAddress: string;
  /** Pipeline bytes to plan. @throws WeirError INVALID_ARGUMENT */
  readonly buildGraph: (pipeline: Uint8Array, options: BuildOptions) => ExecutionGraph;
  /** Finished jobs that are kept. */
  readonly historySize: number;
  readonly cleanArtifactsPerJob: boolean;
  /** What becomes, when the server ends, of jobs that could go on under the next one. */
  readonly onShutdown: OnShutdown;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  readonly log: Log;
}

export interface PrepareRequest {
  /** Encoded Pipeline. */
  readonly pipeline: Uint8Array;
  /** Encoded google.protobuf.Struct. */
  readonly options: Uint8Array;
  readonly jobName: string;
}

interface Preparation extends PrepareRequest {
  readonly preparationId: PreparationId;
  readonly stagingToken: string;
  readonly graph: ExecutionGraph;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly values: OptionValues;
  readonly settings: JobSettings;
}

/** Prepared jobs that were never run; the oldest are dropped beyond it, and beyond `unusedPipelineBytes`. */
const MAX_PREPARATIONS = 200;
/** Preparations that were run, kept so that a second Run is told the truth. */
const MAX_USED_PREPARATIONS = 1_000;

export class JobRegistry {
  readonly #init: JobRegistryInit;
  readonly #preparations = new Map<PreparationId, Preparation>();
  /** Undefined while Run is waiting for the artifacts. */
  readonly #used = new Map<PreparationId, JobId | undefined>();
  readonly #live = new Map<
    JobId,
    { readonly job: Job; readonly ended: Promise<void>; readonly stagingToken: string }
  >();
  #closing = false;

  private constructor(init: JobRegistryInit) {
    this.#init = init;
  }

  static open(init: JobRegistryInit): JobRegistry {
    init.store.prune(init.historySize);
    return new JobRegistry(init);
  }

  /** Goes on with jobs that ran when the last server on the store ended; what cannot go on fails and says why. Once. */
  takeUp(jobs: readonly UnfinishedJob[]): void {
    const { store, artifacts, limits, clock, log, executor } = this.#init;
    for (const found of jobs) {
      const { summary } = found;
      const { jobId, state } = summary;
      const job = new Job({
        summary,
        history: store.events(jobId),
        store,
        copy: found.kind === "lost" ? undefined : this.#copyOf(jobId, found.run),
        messageBytes: limits.jobMessageBytes,
        clock,
        log,
      });
      const lost = (reason: string) =>
        job.finish({
          kind: "failed",
          message: `The job server ended while the job was ${state}, and it is not taken up again: ${reason}. Submit it again.`,
        });
      if (found.kind === "lost") {
        lost(found.reason);
        continue;
      }
      try {
        const graph = withFilesAt(found.run.graph, (sha256) => artifacts.pathOf(sha256));
        store.countTakeUp(jobId);
        job.message(
          "WARNING",
          `The job server ended while the job was ${state}, and has been started again: it takes the job up.`,
        );
        this.#launch(job, { ...found.run, graph });
        if (state === "CANCELLING") void executor.cancel(jobId).catch(() => undefined);
      } catch (thrown) {
        lost(WeirError.from(thrown).message.replace(/\.$/, ""));
      }
    }
  }

  /** @throws WeirError INVALID_ARGUMENT for a pipeline that cannot run or an option of the wrong type. */
  prepare(request: PrepareRequest): { preparationId: PreparationId; stagingToken: string } {
    this.#assertOpen();
    const fields = decodeOptions(request.options);
    const values = readOptions(fields);
    const settings = jobSettings(values);
    const drainAtStart = values.array("experiments").includes("drain_at_start");
    const allowUnsafeTriggers = values.boolean("allow_unsafe_triggers");
    const graph = this.#init.buildGraph(request.pipeline, { drainAtStart, allowUnsafeTriggers });
    const jobName = nameOf(request.jobName, values);
    const unique = randomId();
    const preparationId = `${slugOf(jobName)}-preparation-${unique}` as PreparationId;
    const stagingToken = `staging-${unique}`;
    this.#init.staging.register(stagingToken, dependencySets(graph.environments));
    this.#preparations.set(preparationId, {
      ...request,
      jobName,
      preparationId,
      stagingToken,
      graph,
      fields,
      values,
      settings,
    });
    this.#dropOldPreparations();
    return { preparationId, stagingToken };
  }

  #dropOldPreparations(): void {
    let bytes = 0;
    let count = 0;
    for (const { preparationId, stagingToken, pipeline } of [...this.#preparations.values()].reverse()) {
      bytes += pipeline.byteLength;
      count++;
      const fits = count === 1 || (count <= MAX_PREPARATIONS && bytes <= this.#init.limits.unusedPipelineBytes);
      if (fits || this.#used.has(preparationId)) continue;
      this.#preparations.delete(preparationId);
      this.#init.staging.forget(stagingToken);
    }
  }

  /**
   * Starts a prepared job.
   * @throws WeirError NOT_FOUND for an unknown preparation, FAILED_PRECONDITION for one that was run or lacks artifacts.
   */
  async run(preparationId: PreparationId): Promise<JobId> {
    this.#assertOpen();
    if (this.#used.has(preparationId)) {
      throw userError(
        "FAILED_PRECONDITION",
        `Preparation ${preparationId} was run already, as job ${this.#used.get(preparationId) ?? "(starting)"}.`,
        "Submit the pipeline again to run it again.",
      );
    }
    const preparation = this.#preparations.get(preparationId);
    if (preparation === undefined) {
      throw userError(
        "NOT_FOUND",
        `There is no prepared job ${JSON.stringify(preparationId)}.`,
        "Call Prepare first; what is prepared is lost when the server ends.",
      );
    }
    this.#used.set(preparationId, undefined);
    try {
      const staged = await this.#init.staging.stagedDependencies(preparation.stagingToken);
      this.#assertOpen();
      const jobId = this.#start(preparation, staged);
      this.#preparations.delete(preparationId);
      this.#used.set(preparationId, jobId);
      const oldest = this.#used.keys().next();
      if (this.#used.size > MAX_USED_PREPARATIONS && oldest.done !== true) this.#used.delete(oldest.value);
      return jobId;
    } catch (thrown) {
      this.#used.delete(preparationId);
      throw thrown;
    }
  }

  #start(preparation: Preparation, staged: DependencySets): JobId {
    const { store, limits, clock, log } = this.#init;
    const { jobName, pipeline, options, values, settings, fields, stagingToken } = preparation;
    const graph = withStagedDependencies(preparation.graph, staged);
    const jobId = `${slugOf(jobName)}-${randomId()}` as JobId;
    const summary: JobSummary = { jobId, name: jobName, state: "STOPPED", submittedMs: clock.nowMs(), options };
    store.insertJob({ ...summary, pipeline, plan: encodeExecutionGraph(graph), retrievalToken: stagingToken });
    const job = new Job({
      summary,
      store,
      copy: this.#copyOf(jobId, { graph, settings }),
      messageBytes: limits.jobMessageBytes,
      clock,
      log,
    });
    for (const sentence of [...values.ineffective(), ...resourceHintSentences(graph.environments)])
      job.message("WARNING", sentence);
    this.#launch(job, {
      jobId,
      jobName,
      graph,
      settings,
      pipelineOptions: fields,
      pipelineOptionsBytes: options,
      retrievalToken: stagingToken,
    });
    return jobId;
  }

  /** Undefined where the checkpoints are on the disk of this server: what is here is there. */
  #copyOf(jobId: JobId, { graph, settings }: Pick<StoredJobRun, "graph" | "settings">): JobCopy | undefined {
    if (settings.checkpoints?.storageDirectory === undefined) return undefined;
    const { store, artifacts, clock, log } = this.#init;
    return new JobCopy({
      jobId,
      submission: () => ({ ...storedSubmission(store, jobId), artifacts: stagedChecksums(graph) }),
      artifactPath: (sha256) => artifacts.pathOf(sha256),
      clock,
      log,
    });
  }

  #launch(job: Job, run: StoredJobRun): void {
    const { executor, artifactAddress, log } = this.#init;
    const ended = job.run(executor, { ...run, artifactAddress });
    ended
      .then(() => job.stored)
      .then(() => this.#retire(job, run.retrievalToken))
      .catch((thrown: unknown) => log.error({ err: thrown, job: job.jobId }, "retiring a job failed"));
    this.#live.set(job.jobId, { job, ended, stagingToken: run.retrievalToken });
  }

  #retire(job: Job, stagingToken: string): void {
    this.#live.delete(job.jobId);
    if (this.#init.cleanArtifactsPerJob && isTerminal(job.state)) this.#init.staging.forget(stagingToken);
    if (!this.#closing) this.#init.store.prune(this.#init.historySize);
  }

  /** @throws WeirError NOT_FOUND */
  state(jobId: JobId): { readonly state: JobState; readonly timeMs: number } {
    const states = this.events(jobId).states;
    const last = states.at(-1);
    if (last === undefined) throw this.#unknown(jobId);
    return last;
  }

  /** Kept jobs, oldest first. */
  jobs(): JobSummary[] {
    return this.#init.store.jobs();
  }

  /** History, and news while the job is running. @throws WeirError NOT_FOUND */
  events(jobId: JobId): JobEventLog {
    const live = this.#live.get(jobId);
    if (live !== undefined) return live.job.events;
    const events = this.#init.store.events(jobId);
    if (events.length === 0) throw this.#unknown(jobId);
    return JobEventLog.of(events);
  }

  /** As submitted, byte for byte. @throws WeirError NOT_FOUND */
  pipeline(jobId: JobId): Uint8Array {
    return this.#known(jobId, this.#init.store.pipeline(jobId));
  }

  /** Encoded GetJobMetricsResponse. @throws WeirError NOT_FOUND */
  metrics(jobId: JobId): Uint8Array {
    const live = this.#live.get(jobId);
    if (live !== undefined) return live.job.encodedMetrics;
    this.#known(jobId, this.#init.store.job(jobId));
    return this.#init.store.metrics(jobId) ?? NO_METRICS;
  }

  /** Asks for the job's end. @returns its state now: CANCELLING, or the terminal one. @throws WeirError NOT_FOUND */
  cancel(jobId: JobId): JobState {
    const live = this.#live.get(jobId);
    if (live === undefined) return this.state(jobId).state;
    if (live.job.cancelling()) {
      live.job.message("BASIC", "The job was cancelled by request.");
      this.#init.executor.cancel(jobId).catch((thrown: unknown) => {
        this.#init.log.error({ err: thrown, job: jobId }, "cancelling a job failed");
      });
    }
    return live.job.state;
  }

  /**
   * Asks the job's sources to end. @returns its state now: DRAINING, or the terminal one.
   * @throws WeirError NOT_FOUND, or FAILED_PRECONDITION for a job that cannot be drained
   */
  drain(jobId: JobId): JobState {
    const live = this.#live.get(jobId);
    if (live === undefined) return this.state(jobId).state;
    const { job } = live;
    if (job.state === "DRAINING") return job.state;
    if (job.state !== "RUNNING")
      throw userError("FAILED_PRECONDITION", `Job ${jobId} is ${job.state}: only a running job can be drained.`);
    if (!this.#init.executor.drain(jobId))
      throw userError(
        "FAILED_PRECONDITION",
        `Job ${jobId} has bounded input only, which cannot be drained.`,
        "It ends by itself; cancel it to end it before.",
      );
    if (job.draining())
      job.message("BASIC", "The job drains by request: its sources end, and what they have read is processed.");
    return job.state;
  }

  /**
   * Takes a savepoint. @returns when it is complete; with `stop` when the job has ended
   * @throws WeirError NOT_FOUND; FAILED_PRECONDITION for a job that can have none; and why it was given up
   */
  async savepoint(jobId: JobId, path: string, stop: boolean): Promise<SavepointResult> {
    const live = this.#live.get(jobId);
    const state = live?.job.state ?? this.state(jobId).state;
    if (live === undefined || state !== "RUNNING")
      throw userError("FAILED_PRECONDITION", `Job ${jobId} is ${state}: only a running job can have a savepoint.`);
    const root = path === "" ? undefined : checkStorageRoot(path, "The savepoint's folder");
    const result = await this.#init.executor.savepoint(jobId, root, stop);
    if (stop) await live.ended;
    return result;
  }

  /** How far a running job has come; undefined for one that does not run. */
  progress(jobId: JobId): JobProgress | undefined {
    return this.#live.has(jobId) ? this.#init.executor.progress(jobId) : undefined;
  }

  /** Ends what runs, as cancelled or, where it can be and is wanted, suspended, and waits for it. Idempotent. */
  async close(): Promise<void> {
    this.#closing = true;
    const cancel = (jobId: JobId) => void this.cancel(jobId);
    const live = [...this.#live.values()];
    await endJobs(live, { ...this.#init, cancel });
    // Also of one whose executor has not let go of it in time.
    for (const { job, stagingToken } of live) this.#retire(job, stagingToken);
    for (const { stagingToken } of this.#preparations.values()) this.#init.staging.forget(stagingToken);
  }

  #assertOpen(): void {
    if (!this.#closing) return;
    throw new WeirError({ code: "UNAVAILABLE", domain: "external", message: "The job server is ending.", retry: true });
  }

  #known<Value>(jobId: JobId, value: Value | undefined): Value {
    if (value === undefined) throw this.#unknown(jobId);
    return value;
  }

  #unknown(jobId: string): WeirError {
    if (this.#preparations.has(jobId as PreparationId) || this.#used.has(jobId as PreparationId))
      return userError("NOT_FOUND", `${jobId} is a preparation id; use the job id that Run returned.`);
    return userError(
      "NOT_FOUND",
      `There is no job ${JSON.stringify(jobId)}.`,
      `The server keeps the last ${this.#init.historySize} finished jobs.`,
    );
  }
}
