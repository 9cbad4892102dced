/**
 * One subtask of a streaming job: input channels → head → stage → output channels, on one lane.
 *
 * The head is what the runner does itself: an Impulse, reading, or grouping by key and window. Elements, watermarks
 * and barriers go through head and stage in the order in which the input gate gives them.
 *
 * Invariants: everything durable is rows; a barrier that has left the gate keeps the gate shut until the rows are
 * frozen, so that nothing behind it is in the snapshot. The task never waits for time: it is woken.
 */
import type { SnapshotFile } from "../../../proto/gen/worker.ts";
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import type { Chunk } from "../../base/chunk.ts";
import { MAX_TIMESTAMP, MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { IMPULSE_ELEMENT } from "../task/impulse.ts";
import { BarrierTimes } from "./barrier-times.ts";
import type { Barrier } from "./channel-queue.ts";
import { CommittedMetrics } from "./committed-metrics.ts";
import { droppedInfo } from "./dropped-input.ts";
import { type Finalize, Finalizers } from "./finalizers.ts";
import { type GateEvent, InputGate } from "./input-gate.ts";
import { GroupingHead } from "./grouping-head.ts";
import { openStage } from "./open-stage.ts";
import type { StreamSideInputs } from "./stream-ports.ts";
import { StreamOutputs } from "./stream-outputs.ts";
import type { StreamStage } from "./stream-stage.ts";
import type { StreamTaskDeployed, StreamTaskEnvironment } from "./stream-task-environment.ts";
import type { TaskStatus } from "./task-status.ts";
import { TaskMarks } from "./task-marks.ts";
import { TestStreamHead } from "./test-stream-head.ts";
import type { WatermarkHold } from "./watermark-hold.ts";

/** What a pump does at most before it lets others run. */
const EVENTS_PER_PUMP = 256;

export class StreamTask {
  readonly #environment: StreamTaskEnvironment;
  readonly #task: StreamTaskDeployed;
  readonly #gate: InputGate;
  readonly #outputs: StreamOutputs;
  readonly #stage: StreamStage | undefined;
  readonly #sideInputs: StreamSideInputs | undefined;
  readonly #grouping: GroupingHead | undefined;
  readonly #testStream: TestStreamHead | undefined;
  readonly #finalizers: Finalizers;
  readonly #marks: TaskMarks;
  readonly #abort = new AbortController();
  readonly metrics: CommittedMetrics;
  #barrierInside = false;
  readonly #barrierTimes: BarrierTimes;
  #scheduled = false;
  #isRelieving = false;
  #started = false;
  #finished = false;
  #failed = false;
  #activity = 0;
  /** Of a task without input channels: its only element has gone into the stage. */
  #impulsed: boolean;
  #outputWatermark: Timestamp = MIN_TIMESTAMP;

  constructor(environment: StreamTaskEnvironment, task: StreamTaskDeployed) {
    this.#environment = environment;
    this.#task = task;
    this.#barrierTimes = new BarrierTimes(environment.clock);
    const { vertex } = task;
    const { rows, graph } = environment;
    this.#marks = new TaskMarks(rows.table("task"), task.subtaskIndex);
    this.metrics = new CommittedMetrics(rows.table("metrics"), task.subtaskIndex, environment.limits.metricsBytes);
    this.#impulsed = this.#marks.get("impulse") === MAX_TIMESTAMP;
    this.#outputWatermark = this.#marks.get("output") ?? MIN_TIMESTAMP;
    const wake = () => this.wake();
    const sides = new Set<string>(vertex.stage?.sideInputs.flatMap((side) => side.datasets) ?? []);
    const mains = new Set<string>(vertex.inputs);
    this.#gate = new InputGate(
      task.inputs.map(({ datasetId, queue }) => {
        queue.onItem = wake;
        return { datasetId, side: sides.has(datasetId) && !mains.has(datasetId), queue };
      }),
      {
        main: this.#marks.get("main") ?? MIN_TIMESTAMP,
        side: new Map(
          [...sides].map((datasetId) => [datasetId, this.#marks.get(`side ${datasetId}`) ?? MIN_TIMESTAMP]),
        ),
      },
      environment.barriersBlock,
    );
    this.#outputs = new StreamOutputs(
      {
        jobId: environment.jobId,
        executionAttempt: task.executionAttempt,
        graph,
        vertex,
        subtaskIndex: task.subtaskIndex,
        maxParallelism: environment.maxParallelism,
        edges: task.outputs,
        channels: environment.channels,
        capacityBytes: environment.channelCapacityBytes,
      },
      wake,
    );
    this.#finalizers = new Finalizers(environment.checkpoints);
    if (vertex.stage !== undefined) {
      const opened = openStage(environment, task, vertex.stage, this.#outputs, {
        inputWatermark: this.#marks.get("stage") ?? MIN_TIMESTAMP,
        onCommitted: (infos, finalize) => this.#onCommitted(infos, finalize),
        onBarrier: (barrier) => this.#snapshot(barrier),
        onMapped: () => {
          this.#stage?.sideInputsMoved();
          wake();
        },
        wake,
        onFailure: (failure) => this.#fail(failure),
        signal: this.#abort.signal,
      });
      this.#stage = opened.stage;
      this.#sideInputs = opened.sideInputs;
    }
    if (vertex.head.kind === "group-by-key") {
      const groupingId = vertex.head.transformId ?? vertex.name;
      this.#grouping = new GroupingHead(environment, task, vertex.head, {
        watermark: this.#marks.get("main") ?? MIN_TIMESTAMP,
        data: (chunk) => this.#forward(chunk),
        mark: (timestamp) => this.#forwardWatermark(timestamp),
        onDropped: (counter, count) => this.metrics.merge(droppedInfo(groupingId, counter, count)),
        wake,
        onFailure: (failure) => this.#fail(failure),
        signal: this.#abort.signal,
      });
    }
    if (vertex.head.kind === "test-stream")
      this.#testStream = new TestStreamHead(environment, task, vertex.head, this.#outputs, (failure) =>
        failure === undefined ? wake() : this.#fail(failure),
      );
  }

  /** It has no input channels: barriers begin here. */
  get isRoot(): boolean {
    return this.#task.inputs.length === 0;
  }

  /** Everything that was put into or taken out of channels. */
  get sentItems(): number {
    return this.#outputs.sentItems;
  }

  get receivedItems(): number {
    return this.#gate.receivedItems;
  }

  get activity(): number {
    return this.#activity;
  }

  /** No bundle runs and nothing could be done now. */
  get idle(): boolean {
    return (
      !this.#scheduled &&
      !this.#isRelieving &&
      !this.#barrierInside &&
      (this.#stage?.idle ?? true) &&
      (this.#grouping?.idle ?? true) &&
      (this.#testStream?.idle ?? true) &&
      !this.#gate.hasInput
    );
  }

  get status(): TaskStatus {
    const { heldBy } = this.#currentWatermark();
    return {
      inputWatermark: this.#stage?.inputWatermark ?? this.#gate.mainWatermark,
      outputWatermark: this.#outputWatermark,
      heldBy,
      queuedBytes: this.#gate.queuedBytes + (this.#stage?.queuedBytes ?? 0),
      bundleAgeMs: this.#stage?.bundleAgeMs ?? 0,
      holds: this.#holds(),
      fullToVertices: this.#outputs.fullTo,
    };
  }

  #holds(): WatermarkHold[] {
    const { vertex } = this.#task;
    const holds = vertex.stage === undefined ? [] : (this.#stage?.holds(vertex.stage) ?? []);
    const timestamp = this.#grouping?.hold ?? MAX_TIMESTAMP;
    if (timestamp >= this.#gate.mainWatermark) return holds;
    const noKeys = { keyGroupFirst: -1, keyGroupLast: -1 };
    return [{ kind: "grouping", transform: vertex.name, detail: "", timestamp, count: 0, ...noKeys }, ...holds];
  }

  start(): void {
    this.#started = true;
    if (this.#task.vertex.head.kind === "impulse" && !this.#impulsed) {
      this.#impulsed = true;
      this.#forward({ data: IMPULSE_ELEMENT, elementCount: 1 });
      this.#forwardWatermark(MAX_TIMESTAMP);
    }
    // A restored task says again where it stands.
    else if (this.#impulsed) this.#forwardWatermark(MAX_TIMESTAMP);
    this.#testStream?.start();
    this.wake();
  }

  /** Looks for something to do, soon. Idempotent. */
  wake(): void {
    if (this.#scheduled || this.#abort.signal.aborted || !this.#started) return;
    this.#scheduled = true;
    this.#environment.schedule(() => {
      this.#scheduled = false;
      try {
        this.#pump();
      } catch (failure) {
        this.#fail(failure);
      }
    });
  }

  /** The TestStream's next event, when the job is quiet. */
  advanceTestStream(): void {
    this.#activity++;
    this.#testStream?.advance();
    this.wake();
  }

  /** A checkpoint's barrier, at a task without input channels. */
  trigger(barrier: Barrier): void {
    this.#barrierTimes.came();
    if (this.#stage === undefined) this.#snapshot(barrier);
    else this.#stage.barrier(barrier);
    this.wake();
  }

  /** The checkpoint is complete, or given up. */
  checkpointEnded(checkpointId: number, complete: boolean): void {
    if (!complete) return;
    this.#finalizers.complete(checkpointId);
    this.#stage?.checkpointComplete(checkpointId);
    this.wake();
  }

  /** From now on restrictions are truncated. */
  drain(): void {
    this.#stage?.drain();
    this.#testStream?.drain();
    this.wake();
  }

  #pump(): void {
    if (this.#abort.signal.aborted || this.#isRelieving || this.#waitsForRelief()) return;
    for (let round = 0; ; round++) {
      const handled = this.#readGate();
      const changed = this.#stage?.pump() ?? false;
      if (handled + (changed ? 1 : 0) === 0) break;
      this.#activity++;
      if (round === EVENTS_PER_PUMP) {
        this.wake();
        break;
      }
    }
    this.#publish();
  }

  /** Rows over their budget go to disk before anything more is done. */
  #waitsForRelief(): boolean {
    const relief = this.#environment.relief();
    if (relief === undefined) return false;
    this.#isRelieving = true;
    relief
      .catch((failure: unknown) => this.#fail(failure))
      .finally(() => {
        this.#isRelieving = false;
        this.wake();
      });
    return true;
  }

  /** @returns the number of events that were handled */
  #readGate(): number {
    const { maxQueuedBytes } = this.#environment;
    for (let count = 0; ; count++) {
      if (count === EVENTS_PER_PUMP || this.#barrierInside || this.#grouping?.idle === false) return count;
      const isFull = this.#stage === undefined ? this.#outputs.isFull : this.#stage.queuedBytes >= maxQueuedBytes;
      const event = this.#gate.next(!isFull);
      if (this.#gate.isAligning) this.#barrierTimes.aligning();
      if (event === undefined) return count;
      this.#handle(event);
    }
  }

  #handle(event: GateEvent): void {
    if (event.kind === "barrier") {
      this.#barrierInside = true;
      this.#barrierTimes.came();
      if (this.#stage === undefined) this.#snapshot(event.barrier);
      else this.#stage.barrier(event.barrier);
    } else if (event.side) {
      if (event.kind === "data") this.#sideInputs?.add(event.datasetId, event.chunk);
      else this.#sideInputs?.advance(event.datasetId, event.timestamp);
      this.#stage?.sideInputsMoved();
    } else if (event.kind === "data") {
      if (this.#grouping === undefined) this.#forward(event.chunk);
      else this.#grouping.add(event.chunk);
    } else if (this.#grouping === undefined) this.#forwardWatermark(event.timestamp);
    else this.#grouping.advance(event.timestamp);
  }

  /** From the head to the stage, or out where there is none. */
  #forward(chunk: Chunk): void {
    if (this.#stage !== undefined) this.#stage.data(chunk);
    else {
      const bundle = this.#outputs.begin();
      void bundle.acceptHead(chunk);
      bundle.commit();
    }
  }

  #forwardWatermark(timestamp: Timestamp): void {
    if (this.#stage !== undefined) this.#stage.watermark(timestamp);
    else this.#outputWatermark = timestamp;
    this.wake();
  }

  #currentWatermark(): { readonly timestamp: Timestamp; readonly heldBy: string } {
    const current = this.#stage?.outputWatermark ?? { timestamp: this.#outputWatermark, heldBy: "" };
    const grouping = this.#grouping?.hold ?? MAX_TIMESTAMP;
    return current.heldBy === "" && grouping < this.#gate.mainWatermark
      ? { timestamp: current.timestamp, heldBy: "grouping" }
      : current;
  }

  #publish(): void {
    if (this.#testStream !== undefined) {
      if (this.#testStream.ended) this.#finish();
      return;
    }
    const { timestamp } = this.#currentWatermark();
    if (timestamp > this.#outputWatermark) this.#outputWatermark = timestamp;
    this.#outputs.emitWatermark(this.#outputWatermark);
    const isDone = this.#stage?.finished ?? this.#outputWatermark >= MAX_TIMESTAMP;
    if (isDone && this.#outputWatermark >= MAX_TIMESTAMP) this.#finish();
  }

  #finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#activity++;
    this.#environment.onFinished();
  }

  #onCommitted(infos: readonly MonitoringInfo[], finalize: Finalize | undefined): void {
    this.#activity++;
    for (const info of infos) this.metrics.merge(info);
    if (finalize !== undefined) this.#finalizers.add(finalize);
  }

  /** Everything before the barrier has committed: freezes the rows, passes the barrier on, acknowledges later. */
  #snapshot(barrier: Barrier): void {
    this.#barrierInside = false;
    const { checkpointId } = barrier;
    this.#marks.set("main", this.#gate.mainWatermark);
    this.#marks.set("output", this.#outputWatermark);
    this.#marks.set("stage", this.#stage?.inputWatermark ?? MIN_TIMESTAMP);
    if (this.#impulsed) this.#marks.set("impulse", MAX_TIMESTAMP);
    for (const [datasetId, watermark] of this.#gate.sideWatermarks) this.#marks.set(`side ${datasetId}`, watermark);
    this.#grouping?.flush();
    this.metrics.flush();
    this.#finalizers.barrier(checkpointId);
    const times = this.#barrierTimes.frozen();
    const written = this.#environment.snapshot(checkpointId);
    this.#outputs.emitBarrier(barrier);
    written.then(
      (files: readonly SnapshotFile[]) => this.#environment.onSnapshot(checkpointId, files, times(), undefined),
      (failure: unknown) => this.#environment.onSnapshot(checkpointId, [], times(), failure),
    );
    this.wake();
  }

  #fail(failure: unknown): void {
    if (this.#failed || this.#abort.signal.aborted) return;
    this.#failed = true;
    this.#abort.abort(failure);
    this.#environment.onFailed(failure);
  }

  /** Resolves when finalizations that have begun are answered. */
  finalized(): Promise<void> {
    return this.#finalizers.settled();
  }

  /** Ends it: nothing of it is called any more. Idempotent. */
  close(): void {
    this.#abort.abort(new Error("the task has ended"));
    this.#stage?.close();
    this.#grouping?.close();
    this.#testStream?.close();
    for (const { queue } of this.#task.inputs) queue.onItem = undefined;
  }
}
