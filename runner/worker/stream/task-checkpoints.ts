/**
 * A task's part in checkpoints: a barrier comes in, the rows are frozen, the barrier goes out, and the snapshot is
 * acknowledged when it is stored.
 *
 * A barrier that is aligned goes through the stage's queue behind what came before it, while the gate is shut, so that
 * nothing behind it is in the snapshot. One that overtakes freezes the rows at once, in whatever state the task is: what
 * it has overtaken (input of the running bundle, of the stage, of the channels, output that is not sent) is put beside
 * the rows. An aligned one that has waited long enough becomes one that overtakes.
 *
 * Invariants: a snapshot is the rows at one moment and what was in flight at that moment; of each channel what comes
 * before the barrier is in the snapshot of exactly one side, or has an effect on the rows. A barrier of a checkpoint
 * older than the newest that was frozen does nothing.
 */
import type { SnapshotFile } from "../../../proto/gen/worker.ts";
import { WeirError } from "../../base/errors.ts";
import type { Finalizers } from "./finalizers.ts";
import type { Barrier } from "./channel-queue.ts";
import { BarrierTimes } from "./barrier-times.ts";
import type { GroupingHead } from "./grouping-head.ts";
import { ChannelRecording } from "./in-flight/channel-recording.ts";
import { type InFlight, type InFlightOfChannel, rowsOfInFlight } from "./in-flight/in-flight-rows.ts";
import { hasData, inFlightBytes, recordedInput, sideInput } from "./in-flight/task-in-flight.ts";
import type { InputGate } from "./input-gate.ts";
import { SavepointStop } from "./savepoint-stop.ts";
import type { StreamSideInputs } from "./stream-ports.ts";
import type { StreamOutputs } from "./stream-outputs.ts";
import type { StreamStage } from "./stream-stage.ts";
import type { StreamTaskEnvironment } from "./stream-task-environment.ts";

export interface TaskCheckpointsInit {
  readonly environment: StreamTaskEnvironment;
  readonly subtaskIndex: number;
  readonly gate: InputGate;
  readonly outputs: StreamOutputs;
  readonly stage: StreamStage | undefined;
  readonly sideInputs: StreamSideInputs | undefined;
  readonly grouping: GroupingHead | undefined;
  readonly finalizers: Finalizers;
  /** Puts what the task keeps outside of its rows into them: right before they are frozen. */
  readonly flush: () => void;
  readonly wake: () => void;
  readonly signal: AbortSignal;
}

/** What a barrier that is to overtake it later waits for, for people. */
const UNSENT = "output before the barrier that was not sent";

/** An aligned barrier that went out and may still have to overtake what is not sent. */
interface Departing {
  readonly checkpointId: number;
  readonly atMs: number;
  readonly output: PromiseWithResolvers<readonly InFlightOfChannel[]>;
}

export class TaskCheckpoints {
  readonly #init: TaskCheckpointsInit;
  readonly #times: BarrierTimes;
  readonly #stop = new SavepointStop();
  /** It has left the gate, or begun here, and waits in the stage for what is before it: the newest of them. */
  #inside: Barrier | undefined;
  /** A barrier that may overtake, and when. */
  #due: { readonly checkpointId: number; readonly atMs: number } | undefined;
  #departing: Departing | undefined;
  #recording: ChannelRecording | undefined;
  #frozenId = -1;
  #timer = new AbortController();
  #armedForMs: number | undefined;

  constructor(init: TaskCheckpointsInit) {
    this.#init = init;
    this.#times = new BarrierTimes(init.environment.clock);
  }

  /** Nothing may come in until the barrier that is inside has been passed on. */
  get isInside(): boolean {
    return this.#inside !== undefined;
  }

  /** The job is to end with a savepoint, whose barrier is behind the task: nothing more is done. */
  get isStopped(): boolean {
    return this.#stop.isStopped;
  }

  /** Nothing may be read: see `isInside` and `isStopped`. */
  get isShut(): boolean {
    return this.isInside || this.isStopped;
  }

  /** The gate holds channels back until the barrier has come on all. */
  aligning(): void {
    this.#times.aligning();
  }

  /** Of a task without input channels: the barrier begins here. */
  trigger(barrier: Barrier): void {
    if (barrier.overtakesAfterMs === 0) {
      this.#inside = barrier;
      this.#times.came(barrier.checkpointId, "");
    } else this.came(barrier);
    this.#init.wake();
  }

  /** The barrier has come on all channels. */
  came(barrier: Barrier): void {
    const { stage } = this.#init;
    this.#inside = barrier;
    this.#times.came(barrier.checkpointId, stage?.commitWait ?? "");
    this.#dueMs(barrier);
    if (stage === undefined) this.reached(barrier);
    else stage.barrier(barrier);
  }

  /** Everything before the barrier has committed. */
  reached(barrier: Barrier): void {
    const { checkpointId, overtakesAfterMs, savepoint } = barrier;
    if (this.#inside !== undefined && this.#inside.checkpointId <= checkpointId) this.#inside = undefined;
    if (checkpointId <= this.#frozenId) return;
    if (overtakesAfterMs === undefined) {
      this.#snapshot(checkpointId, false, undefined, savepoint?.path);
      this.#init.outputs.emitBarrier(savepoint === undefined ? { checkpointId } : { checkpointId, savepoint });
      this.#stop.passed(barrier);
    } else this.#depart(checkpointId, this.#dueMs(barrier));
    this.#init.wake();
  }

  /** Aligned here, but what is not sent may still be overtaken: the snapshot is whole when the barrier has left. */
  #depart(checkpointId: number, atMs: number): void {
    const output = Promise.withResolvers<readonly InFlightOfChannel[]>();
    this.#snapshot(
      checkpointId,
      false,
      output.promise.then((overtaken) => ({ stage: [], side: [], input: [], output: overtaken })),
    );
    this.#departing = { checkpointId, atMs, output };
    const overtakesAfterMs = Math.max(0, atMs - this.#init.environment.clock.nowMs());
    this.#init.outputs.emitBarrier({ checkpointId, overtakesAfterMs });
  }

  /**
   * Has barriers overtake whose time has come. To be called before the task reads on, when nothing is half done: what
   * it does is one step.
   */
  overtake(): void {
    if (this.#departing !== undefined) this.#leave(this.#departing);
    const inside = this.#inside?.overtakesAfterMs === undefined ? undefined : this.#inside;
    const barrier = this.#init.gate.announced ?? inside;
    if (barrier === undefined || barrier.checkpointId <= this.#frozenId) return;
    if (this.#isDue(this.#dueMs(barrier)) && this.#init.grouping?.isMerging !== true)
      this.#freeze(barrier.checkpointId);
  }

  #leave({ checkpointId, atMs, output }: Departing): void {
    const { outputs } = this.#init;
    if (!outputs.holdsBarrier(checkpointId)) output.resolve([]);
    else if (this.#isDue(atMs)) output.resolve(outputs.overtake({ checkpointId, overtakesAfterMs: 0 }, true));
    else return;
    this.#departing = undefined;
  }

  /** When the barrier is to overtake, from when it, or the first of its copies, was seen. */
  #dueMs({ checkpointId, overtakesAfterMs = Infinity }: Barrier): number {
    const atMs = this.#init.environment.clock.nowMs() + overtakesAfterMs;
    if (this.#due?.checkpointId !== checkpointId || atMs < this.#due.atMs) this.#due = { checkpointId, atMs };
    return this.#due.atMs;
  }

  /** @returns false when the task will be woken then */
  #isDue(atMs: number): boolean {
    const { clock } = this.#init.environment;
    const nowMs = clock.nowMs();
    if (nowMs >= atMs) return true;
    if (this.#armedForMs === undefined || this.#armedForMs > atMs) {
      this.#timer.abort();
      this.#timer = new AbortController();
      this.#armedForMs = atMs;
      clock.sleep(atMs - nowMs, this.#timer.signal).then(
        () => {
          this.#armedForMs = undefined;
          this.#init.wake();
        },
        () => undefined,
      );
    }
    return false;
  }

  #freeze(checkpointId: number): void {
    const { gate, outputs, stage, sideInputs, environment } = this.#init;
    // A channel has one recorder.
    this.#giveUp("a newer one has begun");
    this.#inside = undefined;
    const channels = gate.freeze(checkpointId);
    stage?.overtaken(checkpointId);
    const held = {
      stage: stage?.inFlight ?? [],
      side: sideInput(sideInputs?.arrived ?? []),
      output: outputs.overtake({ checkpointId, overtakesAfterMs: 0 }),
    };
    const recording = new ChannelRecording(checkpointId, channels, environment.limits.bundleMemoryBytes);
    const inFlight = recording.done.then((recorded) => ({ ...held, input: recordedInput(recorded) }));
    this.#snapshot(checkpointId, true, inFlight);
    this.#recording = recording;
  }

  #snapshot(
    checkpointId: number,
    isUnaligned: boolean,
    inFlight: Promise<InFlight> | undefined,
    savepointPath?: string,
  ): void {
    const { environment, finalizers, flush, subtaskIndex, signal } = this.#init;
    this.#giveUp("a newer one has begun");
    this.#frozenId = checkpointId;
    flush();
    finalizers.barrier(checkpointId);
    const times = this.#times.frozen(checkpointId, isUnaligned);
    const waitedFor = times.waitedFor || (inFlight === undefined || isUnaligned ? "" : UNSENT);
    let bytes = 0;
    const rows = inFlight?.then((whole) => {
      times.whole();
      bytes = inFlightBytes(whole);
      return hasData(whole) ? rowsOfInFlight(whole, subtaskIndex) : undefined;
    });
    rows?.catch(() => undefined);
    const report = (files: readonly SnapshotFile[], failure: unknown) => {
      if (signal.aborted) return;
      const unaligned = isUnaligned || bytes > 0;
      const how = { ...times.durations(), inFlightBytes: bytes, unaligned, waitedFor };
      environment.onSnapshot(checkpointId, files, how, failure);
    };
    environment.snapshot(checkpointId, { inFlight: rows, savepointPath }).then(
      (files) => report(files, undefined),
      (failure: unknown) => report([], failure),
    );
  }

  /** The checkpoint is complete, or given up. @param stop the job ends with it */
  ended(checkpointId: number, complete: boolean, stop: boolean): void {
    this.#stop.ended(checkpointId, stop);
    this.#init.wake();
    if (!complete && checkpointId >= this.#frozenId) this.#giveUp("it was given up");
  }

  /** What is being recorded is of no use any more. */
  #giveUp(why: string): void {
    const reason = new WeirError({
      code: "ABORTED",
      domain: "internal",
      message: `In-flight data is not recorded to its end: ${why}.`,
    });
    this.#recording?.cancel(reason);
    this.#recording = undefined;
    this.#departing?.output.reject(reason);
    this.#departing = undefined;
  }

  close(): void {
    this.#timer.abort();
    this.#giveUp("the task has ended");
  }
}
