/**
 * The workers that know one job: opens the job on them, tells them all something, and ends it everywhere.
 *
 * Invariant: a worker is told of the job before anything else about it, once, and released once.
 */
import { Buffer } from "node:buffer";
import type { CoordinatorMessage } from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import type { WorkerId } from "../base/ids.ts";
import { DEFAULT_MAX_PARALLELISM } from "../base/limits.ts";
import { encodeExecutionGraph } from "../graph/execution-graph-json.ts";
import type { JobRun } from "./job-executor.ts";
import type { RegisteredWorker, WorkerRegistry } from "./worker-registry.ts";

/** What an execution needs of the registry. */
export type WorkerDirectory = Pick<WorkerRegistry, "workers" | "listen" | "unlisten">;

/** A worker that does not answer is found by its heartbeat; the job does not wait for it. */
const RELEASE_TIMEOUT_MS = 10_000;
/** What took the job server down may have taken an EXTERNAL worker pool down as well: it has time to come back. */
const TAKE_UP_ENVIRONMENT_WAIT_MS = 300_000;
const WORKER_CHECK_INTERVAL_MS = 500;

export class JobWorkers {
  readonly #run: JobRun;
  readonly #clock: Clock;
  readonly #opened = new Map<WorkerId, RegisteredWorker>();
  readonly #waitingRelease = new Map<WorkerId, () => void>();

  constructor(run: JobRun, clock: Clock) {
    this.#run = run;
    this.#clock = clock;
  }

  get opened(): ReadonlyMap<WorkerId, RegisteredWorker> {
    return this.#opened;
  }

  open(worker: RegisteredWorker): void {
    if (this.#opened.has(worker.workerId)) return;
    this.#opened.set(worker.workerId, worker);
    const { settings, ...run } = this.#run;
    worker.send({
      $case: "openJob",
      value: {
        jobId: run.jobId,
        jobName: run.jobName,
        executionGraph: encodeExecutionGraph(run.graph),
        pipelineOptions: run.pipelineOptionsBytes,
        retrievalToken: run.retrievalToken,
        artifactAddress: run.artifactAddress,
        maxParallelism: settings.maxParallelism ?? DEFAULT_MAX_PARALLELISM,
        sdkWorkerParallelism: Math.max(1, settings.sdkWorkerParallelism),
        settings: Buffer.from(
          JSON.stringify({
            maxBundleElements: Math.max(1, settings.maxBundleSize),
            maxBundleTimeMs: settings.maxBundleTimeMs,
            loopback: settings.environmentType === "LOOPBACK",
            streaming: settings.streaming,
            barriersBlock: settings.checkpointingMode !== "AT_LEAST_ONCE",
            experiments: settings.experiments,
            ...(run.takeUp === undefined ? {} : { environmentWaitMs: TAKE_UP_ENVIRONMENT_WAIT_MS }),
          }),
        ),
      },
    });
  }

  /** To every worker that knows the job. */
  send(message: NonNullable<CoordinatorMessage["message"]>): void {
    for (const worker of this.#opened.values()) worker.send(message);
  }

  /** The worker is gone. @returns true when it knew the job. */
  lost(workerId: WorkerId): boolean {
    this.#waitingRelease.get(workerId)?.();
    return this.#opened.delete(workerId);
  }

  /** The worker has ended the job. */
  answered(workerId: WorkerId): void {
    this.#waitingRelease.get(workerId)?.();
  }

  /** Ends the job on its workers: harnesses are gone when they answer. */
  async release(): Promise<void> {
    await Promise.all(
      [...this.#opened.values()].map(async (worker) => {
        const answered = Promise.withResolvers<void>();
        const abort = new AbortController();
        this.#waitingRelease.set(worker.workerId, answered.resolve);
        worker.send({ $case: "releaseJob", value: { jobId: this.#run.jobId } });
        const late = this.#clock.sleep(RELEASE_TIMEOUT_MS, abort.signal).catch(() => undefined);
        await Promise.race([answered.promise, late]);
        abort.abort();
      }),
    );
  }
}

/** Waits until there are as many workers as are wanted. */
export class WorkerArrivals {
  readonly #directory: WorkerDirectory;
  readonly #wanted: number;
  readonly #enough = new AbortController();

  constructor(directory: WorkerDirectory, wanted: number) {
    this.#directory = directory;
    this.#wanted = wanted;
  }

  /** Another one is there. */
  joined(): void {
    if (this.#directory.workers.length >= this.#wanted) this.#enough.abort();
  }

  /** Aborted when there are enough, or with `signal`. */
  until(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([this.#enough.signal, signal]);
  }
}

/** Resolves with a message for people when there has been no worker for too long: none came, or all were lost. */
export async function noWorkerFor(
  directory: WorkerDirectory,
  workerWaitMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<string> {
  let lastSeenMs = clock.monotonicMs();
  for (;;) {
    await clock.sleep(WORKER_CHECK_INTERVAL_MS, signal);
    const now = clock.monotonicMs();
    if (directory.workers.length > 0) lastSeenMs = now;
    else if (now - lastSeenMs >= workerWaitMs)
      return `There has been no worker for ${workerWaitMs / 1000} s. Start one with "weir worker --coordinator HOST:PORT", or serve with --workers 1 or more.`;
  }
}
