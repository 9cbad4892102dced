/**
 * The ExecutableStage of one streaming task: a queue of main input with watermark and barrier marks in it, cut into
 * bundles that run one at a time.
 *
 * Invariants: a mark takes effect when everything before it has committed. At a watermark mark the eligible timers
 * fire, round by round until none is left; then the state of expired windows is dropped; only then does input behind
 * the mark run. For timers and expiry the watermark is not past input that waits. The output watermark never passes
 * what uncommitted input, timers, residuals and input that waits hold.
 */
import type { StateRequest } from "../../../proto/gen/beam_fn_api.ts";
import type { Chunk } from "../../base/chunk.ts";
import { MAX_TIMESTAMP, MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { bundleInputOf } from "../task/bundle-input.ts";
import { type BundleCommit, BundleRunner } from "./bundle-runner.ts";
import { BundlePace } from "./bundle-pace.ts";
import { BundleSplits } from "./bundle-splits.ts";
import {
  type BundleWork,
  itemCount,
  MAX_RESTRICTIONS,
  type RunningBundle,
  runningBundle,
  takenInput,
} from "./bundle-work.ts";
import type { Barrier } from "./channel-queue.ts";
import { elementsOf } from "./encoded-elements.ts";
import type { StreamStageInit } from "./stream-stage-init.ts";
import { SideInputWait } from "./side-input-wait.ts";
import { nextTimers } from "./next-timers.ts";
import { StageAlarm } from "./stage-alarm.ts";
import { type StageEntry, StageQueue } from "./stage-queue.ts";
import { WaitingInput } from "./waiting-input.ts";
import { describeHolds, leastHold, type StageHolds, type WatermarkHold } from "./watermark-hold.ts";

export class StreamStage {
  readonly #init: StreamStageInit;
  readonly #runner: BundleRunner;
  readonly #splits: BundleSplits;
  readonly #queue: StageQueue;
  readonly #wait: SideInputWait | undefined;
  readonly #waiting: WaitingInput | undefined;
  #inputWatermark: Timestamp;
  /** Of the last mark that was put in. */
  #arrivedWatermark: Timestamp;
  /** The input watermark up to which every timer has fired: those without a hold of their own are held by it. */
  #firedWatermark: Timestamp;
  #running: RunningBundle | undefined;
  /** Windows that expired before it have been dropped. */
  #expiredWatermark: Timestamp = MIN_TIMESTAMP;
  #isDraining = false;
  readonly #alarm: StageAlarm;
  readonly #pace: BundlePace;

  constructor(init: StreamStageInit) {
    this.#init = init;
    this.#inputWatermark = init.inputWatermark;
    this.#arrivedWatermark = init.arrivedWatermark;
    this.#firedWatermark = MIN_TIMESTAMP;
    this.#queue = new StageQueue(init.plan.skip);
    this.#queue.restore(init.restored);
    if (init.sideInputs !== undefined) this.#wait = new SideInputWait(init.sideInputs, init.pushedBack, init.plan.skip);
    if (init.waiting !== undefined) this.#waiting = new WaitingInput(init.waiting, this.#queue, init.plan.skip);
    this.#runner = new BundleRunner({
      stageName: init.stageName,
      plan: init.plan,
      output: init.output,
      userState: init.userState,
      timers: init.timers,
      onState: (request: StateRequest) => {
        if (init.pagedValues !== undefined && request.stateKey?.type?.$case === "runner")
          return init.pagedValues.answer(request);
        if (init.sideInputs === undefined) throw new Error(`${init.stageName} has no side input.`);
        return init.sideInputs.answer(request);
      },
      sideInputTokens: () => init.sideInputs?.cacheTokens() ?? [],
      maxBundleAttempts: init.limits.maxBundleAttempts,
      progress: init.progress,
      harness: init.harness,
      log: init.log,
      signal: init.signal,
    });
    this.#splits = new BundleSplits(init, this.#runner);
    this.#alarm = new StageAlarm(init.jobClock, init.wake);
    this.#pace = new BundlePace(init.limits.minBundleTimeMs, init.limits.maxBundleTimeMs);
  }

  get inputWatermark(): Timestamp {
    return this.#inputWatermark;
  }

  /** Of the last mark that was put in. */
  get arrivedWatermark(): Timestamp {
    return this.#arrivedWatermark;
  }

  /** Input that has not committed, in the order in which it must run; what is among the rows is not in it. */
  get inFlight(): StageEntry[] {
    return [...takenInput(this.#running), ...this.#queue.waiting(this.#running?.work?.releasedCount ?? 0)];
  }

  /** What a barrier that comes now waits for, for people; empty: nothing. */
  get commitWait(): string {
    if (this.#running === undefined) return this.#queue.isEmpty ? "" : "input before the barrier";
    return this.#init.splittable ? "a running bundle, which it asked to end early" : "a running bundle";
  }

  get queuedBytes(): number {
    return this.#queue.bytes;
  }

  /** A bundle's worth waits: what is more than that is as well kept where it is, and barriers have less to wait for. */
  get hasEnough(): boolean {
    const { limits, gathering } = this.#init;
    const isFull = gathering === undefined && this.#queue.elements >= this.#maxElements;
    return isFull || this.#queue.bytes >= limits.maxQueuedBytes;
  }

  get bundleAgeMs(): number {
    return this.#running === undefined ? 0 : this.#init.clock.monotonicMs() - this.#running.startedMs;
  }

  /** Nothing runs and nothing could. */
  get idle(): boolean {
    return this.#running === undefined && this.#queue.isEmpty;
  }

  /** Input is at its end and nothing is pending. */
  get finished(): boolean {
    const { residuals, timers, pushedBack } = this.#init;
    return (
      this.idle &&
      this.#inputWatermark >= MAX_TIMESTAMP &&
      residuals.count === 0 &&
      (timers?.count ?? 0) === 0 &&
      pushedBack.count === 0 &&
      (this.#waiting?.count ?? 0) === 0
    );
  }

  /** What the output watermark may be, and what keeps it there. */
  get outputWatermark(): { readonly timestamp: Timestamp; readonly heldBy: string } {
    const { residuals, timers, pushedBack } = this.#init;
    const waitsFor = this.#waiting?.heldBy ?? "side input";
    return leastHold(this.#firedWatermark, [
      [residuals.hold, "residual"],
      [timers?.hold ?? MAX_TIMESTAMP, "timer"],
      [pushedBack.hold, "side input"],
      [this.#waiting?.hold ?? MAX_TIMESTAMP, waitsFor],
      [this.#queue.releasedHold, waitsFor],
    ]);
  }

  /** For people: everything that holds the output watermark, the least first. */
  holds(spec: StageHolds["spec"]): WatermarkHold[] {
    const { residuals, timers, pushedBack, sideInputs } = this.#init;
    return describeHolds({
      spec,
      bundle: this.#running?.hold,
      residuals,
      timers: timers?.describeHolds?.() ?? [],
      pushedBack,
      openSideInputs: sideInputs?.notReady ?? [],
      waiting: this.#waiting,
    });
  }

  /** The input watermark, but not past input that waits. */
  get #stageTime(): Timestamp {
    return Math.min(
      this.#inputWatermark,
      this.#init.pushedBack.hold,
      this.#waiting?.hold ?? MAX_TIMESTAMP,
      this.#queue.releasedHold,
    ) as Timestamp;
  }

  /** What of a chunk makes a full bundle of what waits already, and the rest, which had better stay where it is. */
  cut(chunk: Chunk): { readonly head: Chunk; readonly rest: Chunk | undefined } {
    return this.#queue.cut(chunk, this.#init.gathering === undefined ? this.#maxElements : Infinity);
  }

  data(chunk: Chunk): void {
    if (this.#waiting === undefined) {
      this.#queue.data(chunk);
      return;
    }
    // What waits holds the stage's time: whether it is late is told by where the task was when it came.
    const { late } = this.#init;
    const kept = late === undefined ? chunk : late.keep(chunk, this.#arrivedWatermark);
    if (kept !== undefined) this.#waiting.data(kept);
  }

  watermark(timestamp: Timestamp): void {
    this.#arrivedWatermark = timestamp;
    this.#waiting?.watermark(timestamp);
    this.#queue.mark({ kind: "watermark", timestamp });
  }

  barrier(barrier: Barrier): void {
    this.#queue.mark({ kind: "barrier", barrier });
    if (this.#init.splittable && this.#running !== undefined) void this.#splits.split(this.#running);
  }

  /** A barrier has overtaken what is in here; right before the rows are frozen. */
  overtaken(checkpointId: number): void {
    this.#queue.forgetBarrier(checkpointId);
    this.#waiting?.barrier(checkpointId);
  }

  /** Restrictions are truncated from now on, those that wait and those that come. */
  drain(): void {
    if (this.#isDraining || this.#init.truncation === undefined) return;
    this.#isDraining = true;
    if (this.#running !== undefined) void this.#splits.split(this.#running);
  }

  checkpointComplete(checkpointId: number): void {
    this.#waiting?.complete(checkpointId);
  }

  /** A side input has new content or a new watermark. */
  sideInputsMoved(): void {
    this.#wait?.moved();
  }

  /** Does what can be done now: takes marks, starts a bundle. @returns true when it changed anything. */
  pump(): boolean {
    let changed = false;
    while (this.#running === undefined && !this.#init.signal.aborted) {
      this.#waiting?.release();
      this.#wait?.release(this.#queue);
      if (this.#queue.front?.kind === "barrier") {
        // Before timers and residuals, which are state: they could go on for ever.
        const { barrier } = this.#queue.front;
        this.#queue.shift();
        this.#waiting?.barrier(barrier.checkpointId);
        this.#init.onBarrier(barrier);
        if (barrier.savepoint?.stops === true) return true;
        changed = true;
        continue;
      }
      if (this.#init.output.isFull) {
        this.#pace.waits();
        return changed;
      }
      let work = nextTimers(this.#init, this.#stageTime);
      if (work === undefined) {
        this.#firedWatermark = this.#stageTime;
        this.#expireWindows();
        if (this.#startTruncation()) return true;
        if (this.#init.gathering?.waits(this.#queue) === true) break;
        work = this.#nextElements();
      }
      if (work !== undefined) {
        this.#start(work);
        return true;
      }
      const { front } = this.#queue;
      if (front === undefined) break;
      changed = true;
      if (front.kind !== "watermark") continue; // Data that was at the front may all have been pushed back.
      this.#queue.shift();
      if (front.timestamp > this.#inputWatermark) this.#inputWatermark = front.timestamp;
    }
    this.#armWake();
    return changed;
  }

  #expireWindows(): void {
    const time = this.#stageTime;
    if (time <= this.#expiredWatermark) return;
    this.#expiredWatermark = time;
    this.#init.userState?.expireWindows(time);
    this.#init.timers?.expireWindows?.(time);
    this.#init.sideInputs?.expire(this.outputWatermark.timestamp);
  }

  /** In a job that drains: a bundle that truncates restrictions before any of them runs. */
  #startTruncation(): boolean {
    const { truncation, residuals, limits } = this.#init;
    if (!this.#isDraining || truncation === undefined) return false;
    if (this.#queue.front?.kind === "data") {
      // What has to wait for a side input waits in a job that drains, too.
      const { chunks, releasedCount } = this.#queue.take(
        { maxElements: MAX_RESTRICTIONS, maxBytes: limits.maxBundleBytes },
        this.#wait?.divide,
      );
      const hold = releasedCount > 0 ? this.#queue.releasedHold : this.#inputWatermark;
      for (const chunk of chunks)
        for (const element of elementsOf(chunk.data, this.#init.plan.skip))
          residuals.add({ element, dueMs: 0, hold, truncated: false });
      this.#queue.committed(releasedCount);
    }
    const taken = residuals.takeUntruncated(MAX_RESTRICTIONS);
    if (taken === undefined) return false;
    this.#running = runningBundle(this.#init, undefined, true, taken.hold);
    truncation
      .run(taken)
      .catch((failure: unknown) => {
        taken.release();
        if (!this.#init.signal.aborted) this.#init.onFailure(failure);
      })
      .finally(() => {
        this.#running = undefined;
        this.#init.wake();
      });
    return true;
  }

  /** What of a chunk may run now, where not all of every chunk may. */
  get #prepare(): ((chunk: Chunk, released: boolean) => Chunk | undefined) | undefined {
    const { late } = this.#init;
    const divide = this.#wait?.divide;
    if (late === undefined) return divide;
    return (chunk, released) => {
      // What waited was looked at when it came.
      const kept = released ? chunk : late.keep(chunk, this.#stageTime);
      return kept === undefined || divide === undefined ? kept : divide(kept);
    };
  }

  /** In one bundle. */
  get #maxElements(): number {
    const { limits, splittable, sizing, duration } = this.#init;
    const most = Math.min(splittable ? MAX_RESTRICTIONS : Infinity, limits.maxBundleElements);
    const wanted = duration?.limit(most) ?? most;
    return sizing?.limit(wanted) ?? wanted;
  }

  /** Residuals that are due and the data at the front of the queue. */
  #nextElements(): BundleWork | undefined {
    // A mark first: everything before it has committed, and residuals could go on for ever.
    if (!this.#queue.isEmpty && this.#queue.front?.kind !== "data") return undefined;
    const { residuals, limits, jobClock } = this.#init;
    const maxElements = this.#maxElements;
    const due = residuals.takeDue(jobClock.nowMs(), maxElements);
    const chunks: Chunk[] = due?.elements.map((data) => ({ data, elementCount: 1 })) ?? [];
    const taken = this.#queue.take(
      { maxElements: maxElements - chunks.length, maxBytes: limits.maxBundleBytes },
      this.#prepare,
    );
    chunks.push(...taken.chunks);
    if (chunks.length === 0) {
      this.#queue.committed(taken.releasedCount);
      return undefined;
    }
    // What waited is older than the input watermark.
    const released = taken.releasedCount > 0 ? this.#queue.releasedHold : MAX_TIMESTAMP;
    const hold = Math.min(this.#inputWatermark, due?.hold ?? MAX_TIMESTAMP, released) as Timestamp;
    return { chunks, firing: undefined, residuals: due, releasedCount: taken.releasedCount, hold };
  }

  #start(work: BundleWork): void {
    const running = runningBundle(this.#init, work, this.#isDraining, work.hold);
    const { timer } = running;
    this.#running = running;
    const thaw = this.#init.sideInputs?.freeze();
    if (this.#init.splittable) void this.#splits.repeat(running, this.#pace.next());
    const chunks = this.#init.pagedValues?.begin(work.chunks) ?? work.chunks;
    this.#runner
      .run(bundleInputOf(chunks), work.firing, (commit) => this.#onCommit(work, commit, running))
      .catch((failure: unknown) => {
        work.firing?.release();
        running.residuals?.release();
        if (!this.#init.signal.aborted) this.#init.onFailure(failure);
      })
      .finally(() => {
        this.#pace.ended(this.bundleAgeMs);
        timer.abort();
        thaw?.();
        this.#init.pagedValues?.end();
        this.#running = undefined;
        this.#init.wake();
      });
  }

  #onCommit(work: BundleWork, commit: BundleCommit, running: RunningBundle): void {
    running.work = undefined;
    running.residuals?.commit();
    for (const chunk of work.chunks) this.#init.timers?.noteInput(chunk);
    this.#init.sizing?.committed(itemCount(work), commit.writtenBytes);
    if (work.firing === undefined) this.#init.duration?.committed(itemCount(work), this.bundleAgeMs);
    this.#splits.addResiduals(commit.residuals, running);
    this.#queue.committed(work.releasedCount);
    this.#init.onCommitted(commit.infos, commit.finalize);
  }

  #armWake(): void {
    const { residuals, timers } = this.#init;
    const dueMs = Math.min(residuals.nextDueMs ?? Infinity, timers?.nextProcessingTimeMs ?? Infinity);
    this.#alarm.set(this.#running === undefined ? dueMs : Infinity);
  }

  close(): void {
    this.#alarm.close();
    this.#init.gathering?.close();
    this.#running?.timer.abort();
  }
}
