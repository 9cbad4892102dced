/**
 * Runs one bounded job stage by stage: the I/O shell around BlockingSchedule. It places ready tasks, hears their ends,
 * and turns losses into restarts or the job's failure.
 *
 * Invariant: every attempt that it has started ends in exactly one of finished, failed, cancelled or lost, and what
 * an attempt wrote is released when nobody needs it.
 */
import {
  type TaskFailure,
  type TaskSplit,
  type TaskStateChange,
  TaskStateChange_State,
  type WorkerMessage,
} from "../../proto/gen/worker.ts";
import { present } from "../base/assert.ts";
import { chance, type Clock } from "../base/clock.ts";
import type { DatasetId, TaskAttemptId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { BlockingMetrics } from "./blocking-metrics.ts";
import { BlockingSchedule, type InputPartition, type PlannedTask } from "./blocking-schedule.ts";
import type { Execution } from "./executor-selection.ts";
import { type JobObserver, type JobOutcome, type JobProgress, type JobRun, messageImportance } from "./job-executor.ts";
import { JobWorkers, noWorkerFor, type WorkerDirectory } from "./job-workers.ts";
import { RestartStrategy } from "./restart-strategy.ts";
import { SplitRequests } from "./split-requests.ts";
import { choosePlacement } from "./task-placement.ts";
import type { RegisteredWorker, WorkerListener } from "./worker-registry.ts";

export interface BlockingExecutionInit {
  readonly registry: WorkerDirectory;
  /** Partitions of a job that does not say. */
  readonly defaultParallelism: number;
  /** A job without any worker waits so long for one before it fails. */
  readonly workerWaitMs: number;
  /** Of the job's metrics; what does not fit is left out. Default: that of the metrics themselves. */
  readonly metricsBytes?: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** Input bytes of a subtask before a second harness is worth its start. */
const BYTES_PER_SUBTASK = 16 * 1024 * 1024;
/** How often idle workers are looked for. */
const SPLIT_CHECK_MS = 1_000;
/** Of a job that does not say how often it may be restarted. */
const MAX_TASK_ATTEMPTS = 4;

export class BlockingExecution implements Execution, WorkerListener {
  readonly #init: BlockingExecutionInit;
  readonly #run: JobRun;
  readonly #observer: JobObserver;
  readonly #schedule: BlockingSchedule;
  readonly #outcome = Promise.withResolvers<JobOutcome>();
  readonly #released = Promise.withResolvers<void>();
  readonly #workers: JobWorkers;
  readonly #metrics: BlockingMetrics;
  readonly #abort = new AbortController();
  readonly #splits = new SplitRequests();
  readonly #startedMs = new Map<TaskAttemptId, number>();
  /** Set where the user has said how often: then it counts every failure, those of the pipeline too, as in Flink. */
  readonly #restarts: RestartStrategy | undefined;
  /** Nothing is started while a restart waits for its time. */
  #pauses = 0;
  #ended = false;

  constructor(init: BlockingExecutionInit, run: JobRun, observer: JobObserver) {
    this.#init = init;
    this.#run = run;
    this.#observer = observer;
    this.#workers = new JobWorkers(run, init.clock);
    this.#metrics = new BlockingMetrics(observer, init.clock, init.metricsBytes);
    const policy = run.settings.restarts;
    const isCounted = policy.kind !== "default";
    this.#restarts = isCounted ? new RestartStrategy(policy) : undefined;
    const explicit = run.settings.parallelism;
    this.#schedule = new BlockingSchedule({
      graph: run.graph,
      parallelism: explicit ?? init.defaultParallelism,
      explicitParallelism: explicit !== undefined,
      bytesPerSubtask: BYTES_PER_SUBTASK,
      maxTaskAttempts: isCounted ? Infinity : MAX_TASK_ATTEMPTS,
    });
  }

  get released(): Promise<void> {
    return this.#released.promise;
  }

  get progress(): JobProgress {
    const now = this.#init.clock.monotonicMs();
    const stages = [...this.#schedule.runs.values()].map(({ spec, subtasks }) => {
      const states = (subtasks ?? []).map(({ state }) => state);
      const startedMs = states.flatMap((state) =>
        state.kind === "running" ? [this.#startedMs.get(state.attemptId) ?? now] : [],
      );
      return {
        vertexId: spec.id,
        vertexName: spec.name,
        subtasks: subtasks?.length,
        running: startedMs.length,
        finished: states.filter(({ kind }) => kind === "finished").length,
        oldestTaskAgeMs: startedMs.length === 0 ? 0 : now - Math.min(...startedMs),
      };
    });
    return { tasks: [], stages, checkpoints: undefined };
  }

  async run(): Promise<JobOutcome> {
    const { registry } = this.#init;
    registry.listen(this);
    this.#observer.running();
    noWorkerFor(registry, this.#init.workerWaitMs, this.#init.clock, this.#abort.signal).then(
      (message) => this.end({ kind: "failed", message }),
      () => undefined,
    );
    this.#splitForIdleWorkers().catch(() => undefined);
    this.#advance();
    const outcome = await this.#outcome.promise;
    this.#abort.abort();
    await this.#workers.release();
    registry.unlisten(this);
    this.#released.resolve();
    return outcome;
  }

  end(outcome: JobOutcome): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#metrics.publish();
    this.#outcome.resolve(outcome);
  }

  /** Starts what can be started, releases what can be released, ends the job when all is done. */
  #advance(): void {
    if (this.#ended) return;
    if (this.#schedule.done) {
      this.end({ kind: "done" });
      return;
    }
    this.#release(this.#schedule.releasable());
    if (this.#pauses > 0) return;
    const workers = this.#init.registry.workers;
    for (;;) {
      const [task] = this.#schedule.ready(1);
      if (task === undefined) return;
      const worker = choosePlacement(task, workers, this.#workers.opened, this.#schedule.running());
      if (worker === undefined) return;
      this.#deploy(task, worker);
    }
  }

  #deploy(task: PlannedTask, worker: RegisteredWorker): void {
    this.#workers.open(worker);
    this.#schedule.started(task, worker.workerId);
    this.#splits.started(task.attemptId, this.#init.clock.monotonicMs());
    this.#startedMs.set(task.attemptId, this.#init.clock.monotonicMs());
    this.#init.log.debug({ job: this.#run.jobId, task: task.attemptId, worker: worker.workerId }, task.vertex.name);
    worker.send({
      $case: "deployTask",
      value: {
        jobId: this.#run.jobId,
        taskAttemptId: task.attemptId,
        vertexId: task.vertex.id,
        subtaskIndex: task.subtaskIndex,
        parallelism: task.parallelism,
        mainInput: task.mainInput.map((input) => this.#ref(input)),
        sideInput: task.sideInput.map((input) => this.#ref(input)),
        outputPartitions: task.outputPartitions,
      },
    });
  }

  #ref(input: InputPartition) {
    const holder = this.#workers.opened.get(input.workerId);
    return {
      datasetId: input.datasetId,
      index: input.index,
      taskAttemptId: input.attemptId,
      workerId: input.workerId,
      exchangeAddress: present(holder, "the worker that holds the input").exchangeAddress,
      byteLength: BigInt(input.byteLength),
      elementCount: BigInt(input.elementCount),
    };
  }

  /** A worker without a task of the job, when there is no other to run, helps a task that takes long. */
  async #splitForIdleWorkers(): Promise<void> {
    const { clock, registry } = this.#init;
    for (;;) {
      await clock.sleep(SPLIT_CHECK_MS, this.#abort.signal);
      const running = this.#schedule.running();
      const busy = new Set(running.map(({ workerId }) => workerId));
      const idle = registry.workers.filter(({ workerId }) => !busy.has(workerId)).length;
      this.#splits.keep((attemptId) => this.#schedule.isRunning(attemptId));
      if (idle === 0 || this.#pauses > 0) continue;
      const asked = this.#splits.choose(clock.monotonicMs(), idle, (id) => this.#schedule.isSplittable(id));
      for (const taskAttemptId of asked) {
        const workerId = running.find(({ attemptId }) => attemptId === taskAttemptId)?.workerId;
        const worker = registry.workers.find((candidate) => candidate.workerId === workerId);
        worker?.send({ $case: "splitTask", value: { jobId: this.#run.jobId, taskAttemptId } });
      }
    }
  }

  #onSplit(worker: RegisteredWorker, { taskAttemptId, datasetId, partition }: TaskSplit): void {
    const attemptId = taskAttemptId as TaskAttemptId;
    this.#splits.answered(attemptId, partition !== undefined, this.#init.clock.monotonicMs());
    if (this.#ended || partition === undefined) return;
    const counts = this.#schedule.split(attemptId, {
      datasetId: datasetId as DatasetId,
      attemptId,
      workerId: worker.workerId,
      index: partition.index,
      byteLength: Number(partition.byteLength),
      elementCount: Number(partition.elementCount),
    });
    this.#init.log.debug({ job: this.#run.jobId, task: attemptId, counts }, "a task has given input away");
    this.#advance();
  }

  #release(attemptIds: readonly TaskAttemptId[]): void {
    if (attemptIds.length === 0) return;
    this.#workers.send({
      $case: "releaseDatasets",
      value: { jobId: this.#run.jobId, taskAttemptIds: [...attemptIds] },
    });
  }

  #cancel(attemptIds: readonly TaskAttemptId[]): void {
    for (const taskAttemptId of attemptIds)
      this.#workers.send({ $case: "cancelTask", value: { jobId: this.#run.jobId, taskAttemptId } });
    this.#release(attemptIds);
    this.#metrics.takenBack(attemptIds);
  }

  workerJoined(): void {
    this.#advance();
  }

  workerLost(worker: RegisteredWorker, reason: string): void {
    if (!this.#workers.lost(worker.workerId) || this.#ended) return;
    const wasRunning = this.#schedule.running().some(({ workerId }) => workerId === worker.workerId);
    const decision = this.#schedule.workerLost(worker.workerId);
    if (decision.kind === "exhausted") {
      const times = `${MAX_TASK_ATTEMPTS} workers were lost while they ran ${decision.name}`;
      this.end({
        kind: "failed",
        message: `${times}, the last one ${worker.workerId} (${reason}). Does its user code end the worker, or use up the machine's memory?`,
      });
      return;
    }
    const cost = wasRunning || decision.cancel.length > 0;
    const pause = cost ? this.#pauseOrGiveUp(`Worker ${worker.workerId} was lost (${reason}).`) : "";
    if (pause === undefined) return;
    this.#observer.message("WARNING", `Worker ${worker.workerId} is lost (${reason}); its work runs again${pause}.`);
    this.#cancel(decision.cancel);
    this.#advance();
  }

  /**
   * Something has failed that may run again: lets the restart strategy decide, and waits as it says before anything
   * is started. @returns words about it for a message; undefined when the job has failed with `failure`
   */
  #pauseOrGiveUp(failure: string): string | undefined {
    const { clock } = this.#init;
    const { restarts } = this.#run.settings;
    const decision = this.#restarts?.failed(clock.monotonicMs(), chance);
    if (decision?.kind === "give-up") {
      const times = `${decision.restarts} restart${decision.restarts === 1 ? "" : "s"}`;
      const message =
        decision.restarts === 0 ? failure : `The job failed again after ${times}, the last time: ${failure}`;
      this.end({ kind: "failed", message });
      return undefined;
    }
    const delayMs = decision?.delayMs ?? (restarts.kind === "default" ? restarts.delayMs : undefined) ?? 0;
    if (delayMs > 0) {
      this.#pauses++;
      clock.sleep(delayMs, this.#abort.signal).then(
        () => {
          this.#pauses--;
          this.#advance();
        },
        () => undefined,
      );
    }
    const wait = delayMs > 0 ? ` in ${delayMs / 1000} s` : "";
    return decision === undefined ? wait : `${wait} (${decision.counted})`;
  }

  workerMessage(worker: RegisteredWorker, message: NonNullable<WorkerMessage["message"]>): void {
    switch (message.$case) {
      case "taskState":
        if (message.value.jobId === this.#run.jobId) this.#onTaskState(message.value);
        break;
      case "taskSplit":
        if (message.value.jobId === this.#run.jobId) this.#onSplit(worker, message.value);
        break;
      case "metrics":
        if (message.value.jobId === this.#run.jobId) this.#metrics.told(message.value);
        break;
      case "jobMessage":
        if (message.value.jobId === this.#run.jobId)
          this.#observer.message(messageImportance(message.value.importance), message.value.text);
        break;
      case "jobReleased":
        if (message.value.jobId === this.#run.jobId) this.#workers.answered(worker.workerId);
        break;
      default:
        break;
    }
  }

  #onTaskState(change: TaskStateChange): void {
    const attemptId = change.taskAttemptId as TaskAttemptId;
    if (this.#ended) return;
    if (change.state === TaskStateChange_State.FINISHED) {
      const sealed = change.sealed.map((dataset) => ({
        datasetId: dataset.datasetId as DatasetId,
        partitions: dataset.partitions.map((partition) => ({
          index: partition.index,
          byteLength: Number(partition.byteLength),
          elementCount: Number(partition.elementCount),
        })),
      }));
      const counts = this.#schedule.finished(attemptId, sealed);
      this.#metrics.ended(attemptId, counts);
      if (!counts) this.#release([attemptId]);
    } else if (change.state === TaskStateChange_State.FAILED && change.failure !== undefined) {
      this.#metrics.ended(attemptId, false);
      // One that was cancelled fails too, and says nothing about the job.
      if (!this.#schedule.isRunning(attemptId)) return;
      this.#onFailure(attemptId, change.failure);
    }
    this.#advance();
  }

  #onFailure(attemptId: TaskAttemptId, failure: TaskFailure): void {
    const { message, retry, lostInput, environmentLost } = failure;
    const lost = lostInput.map((ref) => ref.taskAttemptId as TaskAttemptId);
    const isRetriable = (retry || lost.length > 0 || this.#restarts !== undefined) && !environmentLost;
    // Its input's loss was heard of before, and counted then.
    const isConsequence = lost.length > 0 && lost.every((producer) => this.#schedule.wasTakenBack(producer));
    const pause = !isRetriable ? undefined : isConsequence ? "" : this.#pauseOrGiveUp(message);
    if (pause === undefined) {
      this.end({ kind: "failed", message });
      return;
    }
    const decision = this.#schedule.failed(attemptId, lost);
    if (decision.kind === "exhausted")
      this.end({ kind: "failed", message: `A task failed ${MAX_TASK_ATTEMPTS} times, the last time: ${message}` });
    if (decision.kind !== "restart") return;
    this.#observer.message("WARNING", `Task ${attemptId} runs again${pause}: ${message}`);
    this.#cancel(decision.cancel);
  }
}
