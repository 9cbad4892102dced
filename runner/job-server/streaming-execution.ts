/**
 * Runs one streaming job: deploys all of its tasks at once, hears how they fare, and when one of them or a worker is lost,
 * restarts the regions that had it from the last complete checkpoint, or from the beginning; the others go on.
 *
 * Each deployment of a region is an execution attempt: messages of earlier ones are dropped, here and on the workers. The
 * execution is in one phase:
 *   waiting (for a worker) → restoring (a checkpoint is looked for) → running → restarting (a pause) → waiting …
 * and `ended` is reached from any of them, once. All regions are up while it is running, and only then.
 */
import { StreamTaskChange_State, type StreamTaskChange, type WorkerMessage } from "../../proto/gen/worker.ts";
import { chance } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import type { WorkerId } from "../base/ids.ts";
import { DEFAULT_STUCK_AFTER_MS } from "../base/limits.ts";
import { ATTEMPTS_PER_CLAIM } from "../checkpoint/leader-claim.ts";
import type { CheckpointCoordinator } from "./checkpoint-coordinator.ts";
import type { Execution } from "./executor-selection.ts";
import { type JobObserver, type JobOutcome, type JobProgress, type JobRun, messageImportance } from "./job-executor.ts";
import { JobWorkers, noWorkerFor, WorkerArrivals } from "./job-workers.ts";
import { deployRegion } from "./deploy-region.ts";
import { openCoordinator } from "./open-coordinator.ts";
import { type DeployedRegion, RegionAttempts } from "./region-attempts.ts";
import { mayComeRight, RestartStrategy } from "./restart-strategy.ts";
import { type RestorePoint, savepointPoint } from "./restore-points.ts";
import { defaultSavepointPath, noCheckpoints } from "./savepoint-folder.ts";
import type { SavepointResult } from "./savepoints.ts";
import { StreamMetrics } from "./stream-metrics.ts";
import { StreamTaskTable } from "./stream-task-table.ts";
import type { StreamingExecutionInit } from "./streaming-execution-init.ts";
import { planStreaming, stateSubtasks, type StreamingPlan, streamingParallelism, taskKey } from "./streaming-plan.ts";
import { successivePlacement } from "./successive-placement.ts";
import { StuckWatermarks } from "./stuck-watermarks.ts";
import { TestStreamDriver } from "./test-stream-driver.ts";
import type { RegisteredWorker, WorkerListener } from "./worker-registry.ts";

type Phase = "waiting" | "restoring" | "running" | "restarting" | "ended";

/** A local worker is there in about a second: worth waiting for, or its share stays with the others for good. */
const MORE_WORKERS_WAIT_MS = 2_000;

export class StreamingExecution implements Execution, WorkerListener {
  readonly #init: StreamingExecutionInit;
  readonly #run: JobRun;
  readonly #observer: JobObserver;
  readonly #workers: JobWorkers;
  readonly #tasks = new StreamTaskTable();
  readonly #metrics: StreamMetrics;
  readonly #restarts: RestartStrategy;
  readonly #outcome = Promise.withResolvers<JobOutcome>();
  readonly #released = Promise.withResolvers<void>();
  readonly #abort = new AbortController();
  readonly #checkpoints: CheckpointCoordinator | undefined;
  #phase: Phase = "waiting";
  /** The newest of all regions. */
  #executionAttempt = 0;
  readonly #regions = new RegionAttempts();
  #plan: StreamingPlan | undefined;
  /** Chosen with the first deployment. */
  #parallelism: number | undefined;
  /** The workers of the newest deployment. */
  #placement: readonly WorkerId[] = [];
  #driver: TestStreamDriver | undefined;
  #arrivals: WorkerArrivals | undefined;
  #isDraining = false;
  /** Since the last restart. */
  #isDrainSent = false;
  #isFinishing = false;

  constructor(init: StreamingExecutionInit, run: JobRun, observer: JobObserver) {
    this.#init = init;
    this.#run = run;
    this.#observer = observer;
    this.#workers = new JobWorkers(run, init.clock);
    this.#metrics = new StreamMetrics(observer, init.clock, init.metricsBytes);
    this.#restarts = new RestartStrategy(run.settings.restarts);
    this.#isDraining = run.takeUp?.draining ?? false;
    // Rows' ids contain the attempt: those of the savepoint, and of earlier job servers, must not come again.
    this.#executionAttempt = run.savepoint?.manifest.executionAttempt ?? 0;
    const settings = run.settings.checkpoints;
    if (settings === undefined) {
      this.#executionAttempt += (run.takeUp?.count ?? 0) * ATTEMPTS_PER_CLAIM;
      return;
    }
    const onComplete = () => {
      this.#restarts.progressed();
      observer.checkpointed();
    };
    const onSuperseded = (message: string) => this.end({ kind: "failed", message });
    const onIntolerable = (cause: string) =>
      this.#restart(this.#regions.up, cause, (restarts) =>
        restarts === 0 ? `${cause}.` : `The job failed again after ${count(restarts, "restart")}: ${cause}.`,
      );
    const told = { onComplete, onSuperseded, onIntolerable, observer };
    this.#checkpoints = openCoordinator({ ...init, ...told, run, settings, workers: this.#workers });
  }

  get released(): Promise<void> {
    return this.#released.promise;
  }

  get progress(): JobProgress {
    return { tasks: this.#tasks.progress(), checkpoints: this.#checkpoints?.counts };
  }

  async run(): Promise<JobOutcome> {
    const { registry, workerWaitMs, clock } = this.#init;
    registry.listen(this);
    noWorkerFor(registry, workerWaitMs, clock, this.#abort.signal).then(
      (message) => this.end({ kind: "failed", message }),
      () => undefined,
    );
    const { stuckAfterMs = DEFAULT_STUCK_AFTER_MS } = this.#init;
    const tell = (text: string) => this.#observer.message("WARNING", text);
    void new StuckWatermarks(stuckAfterMs).watch(() => this.#tasks.progress(), tell, clock, this.#abort.signal);
    this.#awaitWorkers();
    const outcome = await this.#outcome.promise;
    await this.#workers.release();
    await this.#checkpoints?.close(outcome);
    registry.unlisten(this);
    this.#released.resolve();
    return outcome;
  }

  end(outcome: JobOutcome): void {
    if (this.#phase === "ended") return;
    this.#phase = "ended";
    this.#interrupt(this.#regions.up);
    this.#abort.abort();
    this.#metrics.publish();
    this.#outcome.resolve(outcome);
  }

  drain(): void {
    this.#isDraining = true;
    this.#drainSources();
  }

  suspend(): boolean {
    const goesOn = this.#checkpoints !== undefined && this.#run.settings.environmentType !== "LOOPBACK";
    if (goesOn) this.end({ kind: "suspended" });
    return goesOn;
  }

  async savepoint(path: string | undefined, stop: boolean): Promise<SavepointResult> {
    if (this.#checkpoints === undefined) throw noCheckpoints(this.#run.jobId);
    const folder = path ?? defaultSavepointPath(this.#run, this.#init.savepointDirectory);
    const result = await this.#checkpoints.savepoint({ path: folder, stop });
    if (stop) this.end({ kind: "done" });
    return result;
  }

  /** Begins an execution attempt, if there is a worker. */
  #begin(): void {
    if (this.#init.registry.workers.length === 0) {
      this.#phase = "waiting";
      return;
    }
    if (this.#checkpoints === undefined) {
      const { savepoint } = this.#run;
      this.#deploy(savepoint === undefined ? undefined : savepointPoint(savepoint));
      return;
    }
    this.#phase = "restoring";
    this.#checkpoints.restorePoint().then(
      (point) => {
        if (this.#phase !== "restoring") return;
        // What is damaged may be what tasks that run go on from with their next checkpoint.
        if (point?.fellBack === true) this.#takeDown(this.#regions.up);
        this.#deploy(point);
      },
      (failure: unknown) => this.end({ kind: "failed", message: WeirError.from(failure).message }),
    );
  }

  #deploy(point: RestorePoint | undefined): void {
    const { graph, jobId, settings } = this.#run;
    const { registry, clock, log } = this.#init;
    const workers = successivePlacement(registry.workers, this.#placement, this.#regions.isAnyUp);
    if (workers.length === 0) {
      this.#phase = "waiting";
      return;
    }
    this.#placement = workers.map(({ workerId }) => workerId);
    this.#parallelism ??= streamingParallelism(graph, settings, workers.length, point?.boundTo);
    const restore = point === undefined ? {} : { restore: point.taskOf };
    const parallelism = this.#parallelism;
    const plan = planStreaming({
      graph,
      parallelism,
      stateSubtasks: stateSubtasks(graph, settings, parallelism),
      workers,
      ...restore,
    });
    this.#executionAttempt = Math.max(this.#executionAttempt, this.#checkpoints?.attemptFloor ?? 0);
    this.#plan = plan;
    this.#phase = "running";
    this.#regions.replan(plan);
    this.#tasks.deployed(plan);
    const hosts = registry.workers.filter(({ workerId }) => plan.loads.has(workerId));
    for (const worker of hosts) this.#workers.open(worker);
    for (const region of this.#regions.down) {
      const executionAttempt = ++this.#executionAttempt;
      this.#regions.deployed(region, executionAttempt);
      this.#metrics.begin(region.vertexIds, executionAttempt);
      const checkpointDirectory = this.#checkpoints?.statePath ?? "";
      deployRegion(this.#workers, { jobId, plan, region, executionAttempt, checkpointDirectory });
    }
    log.debug({ job: jobId, tasks: plan.tasks.length, workers: hosts.length }, "deployed");
    this.#checkpoints?.begin(plan, this.#regions.up);
    this.#observer.running();
    if (plan.testStreams.length > 0) {
      const executionAttempt = this.#executionAttempt;
      const testStreamWorkers = new Set(plan.testStreams.map(({ workerId }) => workerId));
      this.#driver = new TestStreamDriver({ jobId, executionAttempt, workers: hosts, testStreamWorkers, clock });
      void this.#driver.run();
    }
    this.#advance();
  }

  /** More tasks run or have finished. */
  #advance(): void {
    if (this.#phase !== "running" || !this.#tasks.allRunning) return;
    this.#checkpoints?.tasksRunning();
    this.#drainSources();
    if (!this.#tasks.allFinished || this.#isFinishing) return;
    this.#isFinishing = true;
    const end = () => this.end({ kind: this.#isDraining ? "drained" : "done" });
    if (this.#checkpoints === undefined) end();
    else void this.#checkpoints.finalCheckpoint().then(end);
  }

  /** Tasks that are not there yet would miss it. */
  #drainSources(): void {
    if (!this.#isDraining || this.#isDrainSent || this.#phase !== "running" || !this.#tasks.allRunning) return;
    this.#isDrainSent = true;
    const { jobId } = this.#run;
    for (const { executionAttempt } of this.#regions.up)
      this.#workers.send({ $case: "drainJob", value: { jobId, executionAttempt } });
  }

  /** The regions' execution attempts have ended, and what belongs to them. */
  #interrupt(regions: readonly DeployedRegion[]): void {
    this.#regions.lost(regions);
    this.#driver?.close();
    this.#driver = undefined;
    if (this.#regions.isAnyUp) this.#checkpoints?.interrupt();
    else this.#checkpoints?.end();
    this.#isFinishing = false;
    this.#isDrainSent = false;
  }

  #takeDown(regions: readonly DeployedRegion[]): void {
    const { jobId } = this.#run;
    this.#interrupt(regions);
    this.#tasks.lost(regions);
    for (const { index: region, executionAttempt } of regions)
      this.#workers.send({ $case: "cancelStreamTasks", value: { jobId, executionAttempt, region } });
  }

  /** @param cause what has happened, as a sentence without its full stop. */
  #restart(regions: readonly DeployedRegion[], cause: string, giveUp: (restarts: number) => string): void {
    if (this.#phase === "ended") return;
    const decision = this.#restarts.failed(this.#init.clock.monotonicMs(), chance);
    if (decision.kind === "give-up") {
      this.end({ kind: "failed", message: giveUp(decision.restarts) });
      return;
    }
    const { delayMs, counted } = decision;
    this.#takeDown(regions);
    const newest = this.#checkpoints?.newest;
    const from = newest === undefined ? "the beginning" : `checkpoint ${newest}`;
    const [what, rest] = this.#regions.isAnyUp ? ["what is connected to it", "; the rest goes on"] : ["the job", ""];
    this.#observer.message(
      "WARNING",
      `${cause}; ${what} restarts from ${from} in ${delayMs / 1000} s (${counted})${rest}.`,
    );
    // Others are being restarted: these come with them.
    if (this.#phase !== "running") return;
    this.#phase = "restarting";
    this.#init.clock.sleep(delayMs, this.#abort.signal).then(
      () => this.#awaitWorkers(),
      () => undefined,
    );
  }

  /** Begins an attempt when there are as many workers as could take part, or no more have come for a while. */
  #awaitWorkers(): void {
    const { registry, clock, localWorkerCount = 0 } = this.#init;
    const { graph, settings } = this.#run;
    const local = Math.min(localWorkerCount, streamingParallelism(graph, settings, localWorkerCount));
    const wanted = Math.max(local, this.#plan?.loads.size ?? 0);
    if (registry.workers.length >= wanted) {
      this.#begin();
      return;
    }
    const begin = () => {
      this.#arrivals = undefined;
      if (this.#phase === "restarting" || this.#phase === "waiting") this.#begin();
    };
    this.#arrivals = new WorkerArrivals(registry, wanted);
    clock.sleep(MORE_WORKERS_WAIT_MS, this.#arrivals.until(this.#abort.signal)).then(begin, begin);
  }

  workerJoined(): void {
    if (this.#arrivals !== undefined) this.#arrivals.joined();
    else if (this.#phase === "waiting") this.#begin();
  }

  workerLost(worker: RegisteredWorker, reason: string): void {
    const lost = this.#regions.on(worker.workerId);
    if (!this.#workers.lost(worker.workerId) || lost.length === 0) return;
    this.#restart(
      lost,
      `Worker ${worker.workerId} is lost (${reason})`,
      (restarts) =>
        `The job lost a worker again after ${count(restarts, "restart")}, the last one ${worker.workerId} (${reason}). Does its user code end the worker, or use up the machine's memory?`,
    );
  }

  workerMessage(worker: RegisteredWorker, message: NonNullable<WorkerMessage["message"]>): void {
    if (!("jobId" in message.value) || message.value.jobId !== this.#run.jobId) return;
    switch (message.$case) {
      case "streamTask":
        this.#onTask(message.value);
        break;
      case "metrics":
        if (this.#phase !== "ended") this.#metrics.told(message.value);
        break;
      case "jobMessage":
        this.#observer.message(messageImportance(message.value.importance), message.value.text);
        break;
      case "jobReleased":
        this.#workers.answered(worker.workerId);
        break;
      case "streamProbeReply":
        this.#driver?.replied(worker.workerId, message.value);
        break;
      case "setProcessingTime":
        if (message.value.executionAttempt === this.#executionAttempt)
          this.#driver?.setProcessingTime(message.value.nowMs);
        break;
      case "checkpointAck":
        this.#checkpoints?.acknowledged(message.value);
        break;
      // Of the blocking engine, or not of a job.
      default:
        break;
    }
  }

  #onTask(change: StreamTaskChange): void {
    if (change.executionAttempt !== this.#regions.attemptOf(change.vertexId)) return;
    const key = taskKey(change.vertexId, change.subtaskIndex);
    if (change.status !== undefined && this.#tasks.told(key, change.status)) this.#checkpoints?.hurry();
    switch (change.state) {
      case StreamTaskChange_State.RUNNING:
        if (this.#tasks.running(key)) this.#advance();
        break;
      case StreamTaskChange_State.FINISHED:
        if (this.#tasks.finished(key)) this.#restarts.progressed();
        if (this.#plan?.testStreams.every((task) => this.#tasks.isFinished(task.key)) === true) this.#driver?.close();
        this.#advance();
        break;
      case StreamTaskChange_State.FAILED:
        this.#onFailed(change);
        break;
      case StreamTaskChange_State.UNSPECIFIED:
        break;
    }
  }

  #onFailed({ vertexId, subtaskIndex, failure }: StreamTaskChange): void {
    const name = this.#run.graph.vertices.find(({ id }) => id === vertexId)?.name ?? vertexId;
    const message = failure?.message ?? `A task of ${name} failed and did not say why.`;
    const isRestoreFailure = failure !== undefined && this.#checkpoints?.isRestoreFailure(failure) === true;
    if (isRestoreFailure) this.#observer.message("ERROR", `A checkpoint cannot be restored: ${message}`);
    const { restarts } = this.#run.settings;
    if (!isRestoreFailure && !mayComeRight(failure, restarts)) {
      this.end({ kind: "failed", message });
      return;
    }
    // The files of the others may be damaged, too.
    const lost = isRestoreFailure ? this.#regions.up : this.#regions.with(vertexId);
    this.#restart(lost, `Subtask ${subtaskIndex} of ${name} failed: ${message.replace(/\.$/, "")}`, (restarts) =>
      restarts === 0 ? message : `The job failed again after ${count(restarts, "restart")}, the last time: ${message}`,
    );
  }
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
