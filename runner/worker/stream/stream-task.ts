/**
 * One subtask of a streaming job: input channels → head → stage → output channels, on one lane.
 *
 * The head is what the runner does itself: an Impulse, reading, or grouping by key and window. Elements, watermarks
 * and barriers go through head and stage in the order in which the input gate gives them.
 *
 * Invariants: everything durable is rows; what is not is given to TaskCheckpoints when a barrier overtakes it. The task
 * never waits for time: it is woken.
 */
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import type { Chunk } from "../../base/chunk.ts";
import { MAX_TIMESTAMP, MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { IMPULSE_ELEMENT } from "../task/impulse.ts";
import type { Barrier } from "./channel-queue.ts";
import { CommittedMetrics } from "./committed-metrics.ts";
import { droppedInfo } from "./dropped-input.ts";
import { type Finalize, Finalizers } from "./finalizers.ts";
import type { GateEvent, InputGate } from "./input-gate.ts";
import { GroupingHead } from "./grouping-head.ts";
import { type InFlightOfChannel, takeInFlight } from "./in-flight/in-flight-rows.ts";
import { openGate } from "./open-gate.ts";
import { openStage } from "./open-stage.ts";
import type { StreamSideInputs } from "./stream-ports.ts";
import { StreamOutputs } from "./stream-outputs.ts";
import type { StreamStage } from "./stream-stage.ts";
import type { StreamTaskDeployed, StreamTaskEnvironment } from "./stream-task-environment.ts";
import type { TaskStatus } from "./task-status.ts";
import { TaskCheckpoints } from "./task-checkpoints.ts";
import { TaskMarks } from "./task-marks.ts";
import { TestStreamHead } from "./test-stream-head.ts";
import type { WatermarkHold } from "./watermark-hold.ts";

/** What a pump does at most before it lets others run; an event may be a MiB of elements. */
const EVENTS_PER_PUMP = 64;

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
  readonly #checkpoints: TaskCheckpoints;
  /** Not sent at the snapshot from which the task goes on. */
  #restoredOutput: readonly InFlightOfChannel[];
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
    const { vertex } = task;
    const { rows, graph } = environment;
    this.#marks = new TaskMarks(rows.table("task"), task.subtaskIndex);
    this.metrics = new CommittedMetrics(rows.table("metrics"), task.subtaskIndex, environment.limits.metricsBytes);
    this.#impulsed = this.#marks.get("impulse") === MAX_TIMESTAMP;
    this.#outputWatermark = this.#marks.get("output") ?? MIN_TIMESTAMP;
    const wake = () => this.wake();
    const inFlight = takeInFlight(rows);
    this.#restoredOutput = inFlight.output;
    this.#gate = openGate(task, this.#marks, inFlight.input, environment.barriersBlock, wake);
    this.#outputs = new StreamOutputs(
      {
        jobId: environment.jobId,
        region: environment.region,
        executionAttempt: task.executionAttempt,
        graph,
        vertex,
        subtaskIndex: task.subtaskIndex,
        maxParallelism: environment.maxParallelism,
        edges: task.outputs,
        channels: environment.channels,
        capacityBytes: environment.channelCapacityBytes,
        spillDirectory: environment.spillDirectory,
        clock: environment.clock,
      },
      wake,
    );
    this.#finalizers = new Finalizers(environment.checkpoints);
    if (vertex.stage !== undefined) {
      const opened = openStage(environment, task, vertex.stage, this.#outputs, {
        inputWatermark: this.#marks.get("stage") ?? MIN_TIMESTAMP,
        arrivedWatermark: this.#marks.get("arrived") ?? this.#marks.get("stage") ?? MIN_TIMESTAMP,
        restored: inFlight.stage,
        onCommitted: (infos, finalize) => this.#onCommitted(infos, finalize),
        metrics: this.metrics,
        onBarrier: (barrier) => this.#checkpoints.reached(barrier),
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
      for (const { datasetId, entry } of inFlight.side)
        if (entry.kind === "data") opened.sideInputs?.add(datasetId, entry.chunk);
        else opened.sideInputs?.advance(datasetId, entry.timestamp);
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
    this.#checkpoints = new TaskCheckpoints({
      environment,
      subtaskIndex: task.subtaskIndex,
      gate: this.#gate,
      outputs: this.#outputs,
      stage: this.#stage,
      sideInputs: this.#sideInputs,
      grouping: this.#grouping,
      finalizers: this.#finalizers,
      flush: () => this.#flush(),
      wake,
      signal: this.#abort.signal,
    });
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
      !this.#checkpoints.isInside &&
      (this.#stage?.idle ?? true) &&
      (this.#grouping?.idle ?? true) &&
      (this.#testStream?.idle ?? true) &&
      !this.#gate.hasInput
    );
  }

  get status(): TaskStatus {
    const { heldBy } = this.#currentWatermark();
    const { mainWatermark } = this.#gate;
    return {
      // Behind a grouping the stage's own is behind the grouping's hold.
      inputWatermark: this.#grouping === undefined ? (this.#stage?.inputWatermark ?? mainWatermark) : mainWatermark,
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
    this.#outputs.restore(this.#restoredOutput);
    this.#restoredOutput = [];
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
    this.#checkpoints.trigger(barrier);
  }

  /** The checkpoint is complete, or given up. @param stop the job ends with it */
  checkpointEnded(checkpointId: number, complete: boolean, stop: boolean): void {
    this.#checkpoints.ended(checkpointId, complete, stop);
    if (!complete) return;
    this.#finalizers.complete(checkpointId);
    this.#stage?.checkpointComplete(checkpointId);
  }

  /** From now on restrictions are truncated. */
  drain(): void {
    this.#stage?.drain();
    this.#testStream?.drain();
    this.wake();
  }

  #pump(): void {
    if (this.#abort.signal.aborted || this.#isRelieving) return;
    this.#checkpoints.overtake();
    for (let count = 0; !this.#checkpoints.isStopped;) {
      const handled = this.#readGate();
      const mayPump = !this.#isRelieving && !this.#checkpoints.isStopped;
      const changed = mayPump && (this.#stage?.pump() ?? false);
      if (!changed && handled === 0) break;
      this.#activity++;
      count += handled + 1;
      if (count >= EVENTS_PER_PUMP) {
        this.wake();
        break;
      }
    }
    this.#publish();
  }

  /** Rows over their budget go to disk before anything more is done. */
  #waitsForRelief(): boolean {
    const relief = this.#isRelieving ? undefined : this.#environment.relief();
    if (relief === undefined) return this.#isRelieving;
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
    for (let count = 0; ; count++) {
      if (this.#waitsForRelief() || count === EVENTS_PER_PUMP || this.#checkpoints.isShut) return count;
      const isFull = this.#stage === undefined ? this.#outputs.isFull : this.#stage.hasEnough;
      if (!isFull && this.#grouping?.resume() === true) continue;
      if (this.#grouping?.idle === false) return count;
      const cutter = this.#grouping === undefined ? this.#stage : undefined;
      const event = this.#gate.next(!isFull, cutter, this.#sideInputs?.isFull !== true);
      if (this.#gate.isAligning) this.#checkpoints.aligning();
      if (event === undefined) return count;
      this.#handle(event);
    }
  }

  #handle(event: GateEvent): void {
    if (event.kind === "barrier") this.#checkpoints.came(event.barrier);
    else if (event.side) {
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
      bundle.acceptHead(chunk);
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

  /** Makes the rows true, before they are frozen. */
  #flush(): void {
    this.#marks.set("main", this.#gate.mainWatermark);
    this.#marks.set("output", this.#outputWatermark);
    this.#marks.set("stage", this.#stage?.inputWatermark ?? MIN_TIMESTAMP);
    this.#marks.set("arrived", this.#stage?.arrivedWatermark ?? MIN_TIMESTAMP);
    if (this.#impulsed) this.#marks.set("impulse", MAX_TIMESTAMP);
    for (const [datasetId, watermark] of this.#gate.sideWatermarks) this.#marks.set(`side ${datasetId}`, watermark);
    this.#grouping?.flush();
    this.metrics.flush();
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
    this.#checkpoints.close();
    this.#stage?.close();
    this.#grouping?.close();
    this.#testStream?.close();
    this.#outputs.close();
    for (const { queue } of this.#task.inputs) queue.onItem = undefined;
  }
}
