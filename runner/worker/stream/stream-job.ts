/**
 * The streaming tasks of one region of a job on one worker: deploys them as the job server says, reports how they stand, and
 * hands them its commands. One execution attempt at a time: a newer one ends the tasks of the one before it.
 *
 * Invariant: messages of another attempt than the current one are ignored.
 */
import type {
  CheckpointEnd,
  DeployStreamTasks,
  SnapshotFile,
  StreamProbeReply,
  StreamTaskDeployment,
  WorkerMessage,
} from "../../../proto/gen/worker.ts";
import { StreamTaskChange_State } from "../../../proto/gen/worker.ts";
import { present } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import { crashPoint } from "../../base/crash-points.ts";
import { WeirError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { Barrier } from "./channel-queue.ts";
import { JobClock } from "./job-clock.ts";
import type { Channels } from "./stream-ports.ts";
import { StreamTask } from "./stream-task.ts";
import type { SnapshotReport, StreamTaskEnvironment } from "./stream-task-environment.ts";
import type { TaskRows } from "./task-rows.ts";

/** A task's rows and their snapshots, wherever they are stored. */
export type TaskRowsPort = Pick<TaskRows, "table" | "relief" | "snapshot" | "close"> &
  Partial<Pick<TaskRows, "scratch">>;

export interface StreamJobInit {
  readonly jobId: string;
  readonly region: number;
  readonly channels: Channels;
  /** What one channel may hold, when the worker's tasks have so many. */
  readonly channelCapacityBytes: (channelCount: number) => number;
  /** What all tasks share; the rest is this class's. */
  readonly environment: Omit<
    StreamTaskEnvironment,
    | "region"
    | "rows"
    | "scratch"
    | "checkpoints"
    | "relief"
    | "snapshot"
    | "onSnapshot"
    | "onFinished"
    | "onFailed"
    | "setProcessingTime"
    | "jobClock"
    | "channels"
    | "channelCapacityBytes"
  >;
  /** Opens a task's rows, with what is to be restored in them. */
  readonly openRows: (request: {
    readonly deployment: StreamTaskDeployment;
    readonly executionAttempt: number;
    readonly checkpointDirectory: string;
    /** Tasks of the job that share the worker's memory. */
    readonly taskCount: number;
  }) => Promise<TaskRowsPort>;
  readonly send: (message: NonNullable<WorkerMessage["message"]>) => void;
  /** What a task failed of was an environment that is gone for good. */
  readonly isEnvironmentLost: (failure: unknown) => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

interface RunningTask {
  readonly task: StreamTask;
  readonly rows: TaskRowsPort;
  readonly vertexId: string;
  readonly subtaskIndex: number;
  reportedActivity: number;
}

/** A harness that does not answer is not waited for: finalization is best effort. */
const FINALIZE_TIMEOUT_MS = 5_000;
/** How often metrics and status of running tasks are reported. */
const REPORT_INTERVAL_MS = 1_000;

export class StreamJob {
  readonly #init: StreamJobInit;
  /** Of the attempt: a TestStream that was restored sets it back. */
  #jobClock: JobClock;
  readonly #abort = new AbortController();
  #attempt = 0;
  #tasks: RunningTask[] = [];
  #closing: Promise<void> = Promise.resolve();

  constructor(init: StreamJobInit) {
    this.#init = init;
    this.#jobClock = this.#newClock();
    void this.#reportRegularly();
  }

  /** Starts the attempt's tasks on this worker, in place of those of older attempts. */
  async deploy(message: DeployStreamTasks): Promise<void> {
    if (message.executionAttempt <= this.#attempt) return;
    this.#attempt = message.executionAttempt;
    const attempt = message.executionAttempt;
    this.#jobClock = this.#newClock();
    await this.#endTasks();
    this.#closeChannels(attempt);
    const opened: RunningTask[] = [];
    for (const deployment of message.tasks) {
      if (this.#attempt !== attempt || this.#abort.signal.aborted) break;
      try {
        opened.push(await this.#open(message, deployment));
      } catch (failure) {
        this.#reportFailure(deployment.vertexId, deployment.subtaskIndex, attempt, failure);
      }
    }
    if (this.#attempt !== attempt || this.#abort.signal.aborted) {
      for (const { task, rows } of opened) {
        task.close();
        await rows.close();
      }
      return;
    }
    this.#tasks = opened;
    for (const { task } of opened) task.start();
    // The job server sends no checkpoint and no drain before all tasks say that they run.
    for (const { task, vertexId, subtaskIndex } of opened)
      this.#report(task, vertexId, subtaskIndex, StreamTaskChange_State.RUNNING);
  }

  /** Where there is a TestStream, processing time stands at its beginning until it is set. */
  #newClock(): JobClock {
    const { clock, environment } = this.#init;
    const hasTestStream = environment.graph.vertices.some(({ head }) => head.kind === "test-stream");
    return new JobClock(clock, hasTestStream ? 0 : undefined);
  }

  async #open(message: DeployStreamTasks, deployment: StreamTaskDeployment): Promise<RunningTask> {
    const { environment, channels, jobId, region, send } = this.#init;
    const channelCapacityBytes = this.#init.channelCapacityBytes(message.workerChannelCount);
    const { executionAttempt, checkpointDirectory } = message;
    const { vertexId, subtaskIndex } = deployment;
    const rows = await this.#init.openRows({
      deployment,
      executionAttempt,
      checkpointDirectory,
      taskCount: message.workerTaskCount,
    });
    const vertex = present(
      environment.graph.vertices.find((candidate) => candidate.id === vertexId),
      `vertex ${vertexId}`,
    );
    const lost = (failure: Error) => this.#reportFailure(vertexId, subtaskIndex, executionAttempt, failure);
    const task: StreamTask = new StreamTask(
      {
        ...environment,
        region,
        log: environment.log.child({ stage: vertex.name, task: `${vertexId}.${subtaskIndex}` }),
        rows,
        scratch: rows.scratch,
        checkpoints: checkpointDirectory !== "",
        jobClock: this.#jobClock,
        channels,
        channelCapacityBytes,
        relief: () => rows.relief(),
        snapshot: (checkpointId, more) => rows.snapshot(checkpointId, more),
        onSnapshot: (checkpointId, files, report, failure) =>
          this.#acknowledge(vertexId, subtaskIndex, executionAttempt, checkpointId, files, report, failure),
        onFinished: () => this.#report(task, vertexId, subtaskIndex, StreamTaskChange_State.FINISHED),
        onFailed: (failure) => this.#reportFailure(vertexId, subtaskIndex, executionAttempt, failure),
        setProcessingTime: (nowMs) =>
          send({ $case: "setProcessingTime", value: { jobId, executionAttempt, nowMs: BigInt(Math.trunc(nowMs)) } }),
      },
      {
        executionAttempt,
        vertex,
        subtaskIndex,
        parallelism: deployment.parallelism,
        outputs: deployment.outputs,
        inputs: deployment.inputs.map((input) => ({
          datasetId: input.datasetId,
          queue: channels.openInput(
            {
              jobId,
              region,
              executionAttempt,
              datasetId: input.datasetId,
              producerSubtask: input.producerSubtask,
              consumerVertexId: vertexId,
              consumerSubtask: subtaskIndex,
            },
            channelCapacityBytes,
            { workerId: input.producerWorkerId, exchangeAddress: input.exchangeAddress },
            lost,
          ),
        })),
      },
    );
    return { task, rows, vertexId, subtaskIndex, reportedActivity: -1 };
  }

  cancel(executionAttempt: number): Promise<void> {
    if (executionAttempt < this.#attempt) return Promise.resolve();
    this.#attempt = executionAttempt;
    this.#closeChannels();
    return this.#endTasks();
  }

  #closeChannels(keepAttempt?: number): void {
    const { channels, jobId, region } = this.#init;
    channels.closeRegion(jobId, region, keepAttempt);
  }

  probe(executionAttempt: number, probeId: bigint): void {
    if (executionAttempt !== this.#attempt) return;
    const { jobId } = this.#init;
    const value: StreamProbeReply = {
      jobId,
      executionAttempt,
      probeId,
      sentItems: BigInt(this.#tasks.reduce((sum, { task }) => sum + task.sentItems, 0)),
      receivedItems: BigInt(this.#tasks.reduce((sum, { task }) => sum + task.receivedItems, 0)),
      idle: this.#tasks.length > 0 && this.#tasks.every(({ task }) => task.idle),
      activity: BigInt(this.#tasks.reduce((sum, { task }) => sum + task.activity, 0)),
    };
    this.#init.send({ $case: "streamProbeReply", value });
  }

  setProcessingTime(executionAttempt: number, nowMs: number): void {
    if (executionAttempt !== this.#attempt) return;
    this.#jobClock.set(nowMs);
    for (const { task } of this.#tasks) task.wake();
  }

  advanceTestStream(executionAttempt: number): void {
    if (executionAttempt === this.#attempt) for (const { task } of this.#tasks) task.advanceTestStream();
  }

  trigger(executionAttempt: number, barrier: Barrier): void {
    if (executionAttempt !== this.#attempt) return;
    for (const { task } of this.#tasks) if (task.isRoot) task.trigger(barrier);
  }

  checkpointEnded({ executionAttempt, checkpointId, complete, stop }: CheckpointEnd): void {
    if (executionAttempt !== this.#attempt) return;
    for (const { task } of this.#tasks) task.checkpointEnded(Number(checkpointId), complete, stop);
  }

  drain(executionAttempt: number): void {
    if (executionAttempt === this.#attempt) for (const { task } of this.#tasks) task.drain();
  }

  #acknowledge(
    vertexId: string,
    subtaskIndex: number,
    executionAttempt: number,
    checkpointId: number,
    files: readonly SnapshotFile[],
    { alignmentMs, commitWaitMs, writeMs, inFlightBytes, unaligned, waitedFor }: SnapshotReport,
    failure: unknown,
  ): void {
    if (failure === undefined) crashPoint("before-acknowledgment");
    if (executionAttempt !== this.#attempt) return;
    this.#init.send({
      $case: "checkpointAck",
      value: {
        jobId: this.#init.jobId,
        executionAttempt,
        checkpointId: BigInt(checkpointId),
        vertexId,
        subtaskIndex,
        files: [...files],
        alignmentMs: BigInt(Math.round(alignmentMs)),
        commitWaitMs: BigInt(Math.round(commitWaitMs)),
        writeMs: BigInt(Math.round(writeMs)),
        inFlightBytes: BigInt(inFlightBytes),
        unaligned,
        waitedFor,
        failure: failure === undefined ? "" : WeirError.from(failure).message,
      },
    });
  }

  #report(task: StreamTask, vertexId: string, subtaskIndex: number, state: StreamTaskChange_State): void {
    const { jobId, send } = this.#init;
    const executionAttempt = this.#attempt;
    send({
      $case: "metrics",
      value: {
        jobId,
        taskAttemptId: `${vertexId}.${subtaskIndex}.${executionAttempt}`,
        committed: task.metrics.committed(),
        attempted: task.metrics.attempted(),
      },
    });
    const { status } = task;
    send({
      $case: "streamTask",
      value: {
        jobId,
        executionAttempt,
        vertexId,
        subtaskIndex,
        state,
        failure: undefined,
        status: {
          inputWatermark: BigInt(Math.trunc(status.inputWatermark)),
          outputWatermark: BigInt(Math.trunc(status.outputWatermark)),
          holdKind: status.heldBy,
          holdTransform: "",
          queuedBytes: BigInt(status.queuedBytes),
          bundleAgeMs: BigInt(Math.trunc(status.bundleAgeMs)),
          holds: status.holds.map(({ timestamp, count, ...hold }) => ({
            ...hold,
            timestamp: BigInt(Math.trunc(timestamp)),
            count: BigInt(count),
          })),
          fullToVertices: [...status.fullToVertices],
        },
      },
    });
  }

  #reportFailure(vertexId: string, subtaskIndex: number, executionAttempt: number, failure: unknown): void {
    if (executionAttempt !== this.#attempt || this.#abort.signal.aborted) return;
    const error = WeirError.from(failure);
    this.#init.log.warn({ vertex: vertexId, subtask: subtaskIndex, err: error }, "streaming task failed");
    this.#init.send({
      $case: "streamTask",
      value: {
        jobId: this.#init.jobId,
        executionAttempt,
        vertexId,
        subtaskIndex,
        state: StreamTaskChange_State.FAILED,
        status: undefined,
        failure: {
          message: error.message,
          domain: error.domain,
          code: error.code,
          retry: error.retry,
          lostInput: [],
          environmentLost: this.#init.isEnvironmentLost(failure),
        },
      },
    });
  }

  async #reportRegularly(): Promise<void> {
    try {
      for (;;) {
        await this.#init.clock.sleep(REPORT_INTERVAL_MS, this.#abort.signal);
        for (const running of this.#tasks) {
          const { task, vertexId, subtaskIndex } = running;
          // A bundle that does not end is no activity; its age is what is asked for.
          if (running.reportedActivity === task.activity && task.idle) continue;
          running.reportedActivity = task.activity;
          this.#report(task, vertexId, subtaskIndex, StreamTaskChange_State.RUNNING);
        }
      }
    } catch {
      // The job has ended.
    }
  }

  #endTasks(): Promise<void> {
    const ended = this.#tasks;
    this.#tasks = [];
    for (const { task } of ended) task.close();
    this.#closing = Promise.all([this.#closing, ...ended.map(({ rows }) => rows.close())]).then(() => undefined);
    return this.#closing;
  }

  /** Ends its tasks and channels. Idempotent. */
  async close(): Promise<void> {
    const timeout = new AbortController();
    const finalized = Promise.all(this.#tasks.map(({ task }) => task.finalized()));
    const late = this.#init.clock.sleep(FINALIZE_TIMEOUT_MS, timeout.signal).catch(() => undefined);
    await Promise.race([finalized, late]);
    timeout.abort();
    this.#abort.abort(new Error("the job has ended"));
    this.#closeChannels();
    await this.#endTasks();
  }
}
