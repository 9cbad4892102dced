/**
 * Runs all bundles of one task of an ExecutableStage: cuts the input into bundles, runs each until it commits, feeds
 * residuals back, and splits a long bundle when a lane is idle.
 *
 * Invariants: a bundle's outputs become visible in one synchronous step after its response, or not at all; a failed
 * bundle's input runs again, first of all, until its attempts are used up; the first error of user code is the one
 * that is reported.
 */
import type { StateRequest } from "../../../proto/gen/beam_fn_api.ts";
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import { present } from "../../base/assert.ts";
import type { Chunk } from "../../base/chunk.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import type { HarnessConnection, StateReply } from "./harness-connection.ts";
import { fullMonitoringInfos } from "./short-ids.ts";
import { BundleAttempt, residualsOf } from "./bundle-attempt.ts";
import type { BundlePlan } from "./bundle-messages.ts";
import { BundleSupervisor, type RunningBundle, runningBundle } from "./bundle-supervisor.ts";
import { BundleRetries } from "./bundle-retries.ts";
import { type BundleInput, bundleInputOf, cutBundles } from "./bundle-input.ts";

/** Where a stage's outputs go. One call per bundle attempt. */
export interface StageOutput {
  begin(): StageOutputBundle;
}

export interface StageOutputBundle {
  /** Routes encoded elements of a sink to its datasets. */
  accept(sinkTransformId: string, data: Uint8Array): Promise<void> | void;
  commit(): void;
  abort(): void;
}

/** Gives the lane's harness, started anew when the last one was lost. */
export interface HarnessLane {
  harness(signal: AbortSignal): Promise<HarnessConnection>;
}

export interface StageExecutorInit {
  readonly stageName: string;
  readonly plan: BundlePlan;
  readonly lanes: readonly HarnessLane[];
  /** Of the whole input. */
  readonly inputElements: number;
  readonly output: StageOutput;
  readonly onState: (request: StateRequest) => Promise<StateReply> | StateReply;
  /** Metrics of an attempt that committed. */
  readonly onCommitted: (infos: readonly MonitoringInfo[]) => void;
  /** Metrics of an attempt that failed, as far as it had told them. */
  readonly onFailed: (infos: readonly MonitoringInfo[]) => void;
  /** A running bundle has told its metrics: `runningInfos` has changed. */
  readonly onProgress: () => void;
  readonly limits: {
    readonly maxBundleBytes: number;
    readonly maxBundleElements: number;
    readonly maxBundleAttempts: number;
    /** A bundle that runs longer is split when a lane has nothing to do. */
    readonly splitAfterMs: number;
    /** How often running bundles are looked after; undefined: never. */
    readonly superviseMs: number | undefined;
    /** A bundle that runs longer gives back what it has not begun. */
    readonly maxBundleTimeMs: number;
  };
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** How long a stage that is done waits for its finalizations. */
const FINALIZATION_WAIT_MS = 5000;

export class StageExecutor {
  readonly #init: StageExecutorInit;
  readonly #skip: Skip;
  /** Ends the other lanes when one has failed. */
  readonly #failed = new AbortController();
  readonly #signal: AbortSignal;
  /** Residuals and split-off input: uncommitted input of its own. Bounded by the input that it came from. */
  readonly #returned: BundleInput[] = [];
  readonly #running = new Set<RunningBundle>();
  readonly #finalizing = new Set<Promise<unknown>>();
  #source: AsyncIterator<BundleInput> | undefined;
  #sourceEnded = false;
  #pulledElements = 0;
  /** Lanes with a bundle, whether its harness is there yet or not: each may still give input back. */
  #busyLanes = 0;
  #pulling: Promise<void> = Promise.resolve();
  /** Woken whenever work may have appeared or ended. */
  #wake = Promise.withResolvers<void>();

  constructor(init: StageExecutorInit) {
    this.#init = init;
    this.#skip = init.plan.skip;
    this.#signal = AbortSignal.any([init.signal, this.#failed.signal]);
  }

  /** Runs the whole input. @throws what made it fail; running bundles have ended and nothing more is committed. */
  async run(input: AsyncIterable<Chunk>): Promise<void> {
    const { limits, lanes } = this.#init;
    const bundles = cutBundles(
      input,
      { maxBytes: limits.maxBundleBytes, maxElements: limits.maxBundleElements },
      this.#skip,
    );
    this.#source = bundles;
    const ended = new AbortController();
    const supervision = this.#supervise(AbortSignal.any([this.#signal, ended.signal]));
    try {
      let first: { readonly thrown: unknown } | undefined;
      await Promise.all(
        lanes.map((lane) =>
          this.#runLane(lane).catch((thrown: unknown) => {
            first ??= { thrown };
            this.#failed.abort(thrown);
          }),
        ),
      );
      if (first !== undefined) throw first.thrown;
      await this.#finalized();
    } finally {
      ended.abort();
      await supervision;
      await bundles.return(undefined);
    }
  }

  /** When finalizations are answered, for a client that looks for their effect when its job is done; not for ever. */
  async #finalized(): Promise<void> {
    if (this.#finalizing.size === 0) return;
    const waited = new AbortController();
    const signal = AbortSignal.any([this.#signal, waited.signal]);
    const limit = this.#init.clock.sleep(FINALIZATION_WAIT_MS, signal).catch(() => undefined);
    await Promise.race([Promise.all(this.#finalizing), limit]);
    waited.abort();
  }

  /** What running bundles have told of their metrics. */
  runningInfos(): readonly MonitoringInfo[] {
    return [...this.#running].flatMap(({ infos }) => infos);
  }

  #supervise(signal: AbortSignal): Promise<void> {
    const { limits, onProgress, clock, log } = this.#init;
    if (limits.superviseMs === undefined) return Promise.resolve();
    const supervisor = new BundleSupervisor({
      intervalMs: limits.superviseMs,
      maxBundleTimeMs: limits.maxBundleTimeMs,
      running: this.#running,
      closeBundle: (bundle) => this.#split(bundle, 0),
      onProgress,
      clock,
      log,
    });
    return supervisor.run(signal);
  }

  async #runLane(lane: HarnessLane): Promise<void> {
    for (;;) {
      const input = await this.#next();
      if (input === undefined) return;
      this.#busyLanes++;
      try {
        await this.#runBundle(lane, input);
      } finally {
        this.#busyLanes--;
        this.#notify();
      }
    }
  }

  #notify(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  /** The next input to run; undefined when nothing is left and nothing can come any more. */
  async #next(): Promise<BundleInput | undefined> {
    const { clock } = this.#init;
    for (;;) {
      this.#signal.throwIfAborted();
      const now = clock.nowMs();
      const ready = this.#returned.findIndex((input) => input.notBeforeMs <= now);
      if (ready >= 0) return this.#returned.splice(ready, 1)[0];
      const pulled = await this.#pull();
      if (pulled !== undefined) return pulled;
      if (this.#returned.length === 0 && this.#busyLanes === 0) return undefined;
      await this.#waitForWork(now);
    }
  }

  /** One puller at a time, since an async generator is not reentrant. */
  #pull(): Promise<BundleInput | undefined> {
    if (this.#sourceEnded) return Promise.resolve(undefined);
    const pull = this.#pulling.then(async () => {
      if (this.#sourceEnded) return undefined;
      const next = await present(this.#source, "the stage's input").next();
      if (next.done === true) {
        this.#sourceEnded = true;
        return undefined;
      }
      this.#pulledElements += next.value.elementCount;
      return next.value;
    });
    this.#pulling = pull.then(
      () => undefined,
      () => undefined,
    );
    return pull;
  }

  /** Sleeps until a deferred residual is due or something changes; an idle lane meanwhile splits a slow bundle. */
  async #waitForWork(nowMs: number): Promise<void> {
    const { clock, limits, lanes } = this.#init;
    const dueMs = Math.min(...this.#returned.map((input) => input.notBeforeMs));
    const canSplit = lanes.length > 1 && this.#busyLanes > 0;
    const untilMs = Math.min(dueMs, canSplit ? nowMs + limits.splitAfterMs / 2 : Infinity);
    const timer = new AbortController();
    const waits: Promise<void>[] = [this.#wake.promise];
    const linked = AbortSignal.any([this.#signal, timer.signal]);
    if (untilMs !== Infinity) waits.push(clock.sleep(Math.max(1, untilMs - nowMs), linked).catch(() => undefined));
    else waits.push(new Promise((resolve) => linked.addEventListener("abort", () => resolve(), { once: true })));
    await Promise.race(waits);
    timer.abort();
    if (canSplit) await this.#splitSlowest();
  }

  async #splitSlowest(): Promise<void> {
    const now = this.#init.clock.monotonicMs();
    for (const running of this.#running) {
      if (running.splitting || now - running.startedMs < this.#init.limits.splitAfterMs) continue;
      running.splitting = true;
      try {
        if (await this.#split(running, 0.5)) return;
      } catch (failure) {
        // The bundle's own end tells what happened to it.
        this.#init.log.debug({ err: failure }, "split was not answered");
      } finally {
        running.splitting = false;
      }
    }
  }

  /** What the bundle gives back is uncommitted input at once. @returns false when it gave nothing */
  async #split(running: RunningBundle, fractionOfRemainder: number): Promise<boolean> {
    let count = 0;
    await this.#splitOff(running, fractionOfRemainder, (inputs) => {
      count = inputs.length;
      this.#returned.push(...inputs);
      this.#notify();
    });
    return count > 0;
  }

  async #splitOff(
    running: RunningBundle,
    fractionOfRemainder: number,
    accept: (inputs: readonly BundleInput[]) => void,
  ): Promise<void> {
    await running.attempt.split(fractionOfRemainder, ({ residuals, residualChannel }) => {
      this.#init.log.debug({ bundle: running.attempt.instructionId, fractionOfRemainder }, "split a bundle");
      const roots = residuals.map((residual): Chunk => ({ data: residual.element, elementCount: 1 }));
      accept([bundleInputOf(roots), residualChannel].filter(({ elementCount }) => elementCount > 0));
    });
  }

  /**
   * Hands part of what is left to others. While `hand` runs, the stage does not end; when it fails, the input is this
   * stage's again. @returns false when there is nothing to give, now
   */
  async giveAway(hand: (chunks: readonly Chunk[]) => Promise<void>): Promise<boolean> {
    if (this.#source === undefined || this.#signal.aborted) return false;
    let given: BundleInput[] = [];
    this.#busyLanes++;
    try {
      given = await this.#takeForOthers();
      if (given.length === 0) return false;
      await hand(given.flatMap(({ chunks }) => chunks));
      return true;
    } catch (failure) {
      this.#returned.push(...given);
      this.#init.log.debug({ err: failure }, "no input could be given away");
      return false;
    } finally {
      this.#busyLanes--;
      this.#notify();
    }
  }

  /** Half of what waits here, else of what was not read yet, else of a running bundle. */
  async #takeForOthers(): Promise<BundleInput[]> {
    const now = this.#init.clock.nowMs();
    const waiting = this.#returned.filter((input) => input.notBeforeMs <= now);
    const taken: BundleInput[] = waiting.slice(Math.floor(waiting.length / 2));
    for (const input of taken) this.#returned.splice(this.#returned.indexOf(input), 1);
    if (taken.length > 0) return taken;
    const wanted = (this.#init.inputElements - this.#pulledElements) / 2;
    let elements = 0;
    let bytes = 0;
    while (elements === 0 || (elements < wanted && bytes < this.#init.limits.maxBundleBytes)) {
      // The stage must not take what cannot be read for the end.
      const input = await this.#pull().catch((failure: unknown) => {
        this.#failed.abort(failure);
        throw failure;
      });
      if (input === undefined) break;
      taken.push(input);
      elements += input.elementCount;
      bytes += input.byteLength;
    }
    if (taken.length > 0) return taken;
    const slowest = [...this.#running].find((running) => !running.splitting);
    if (slowest === undefined) return [];
    slowest.splitting = true;
    try {
      await this.#splitOff(slowest, 0.5, (inputs) => taken.push(...inputs));
      return taken;
    } finally {
      slowest.splitting = false;
    }
  }

  async #runBundle(lane: HarnessLane, first: BundleInput): Promise<void> {
    const { limits, stageName, log } = this.#init;
    const signal = this.#signal;
    let input = first;
    const retries = new BundleRetries({ stageName, maxBundleAttempts: limits.maxBundleAttempts, log });
    for (;;) {
      signal.throwIfAborted();
      const harness = await lane.harness(signal);
      const outcome = await this.#attempt(harness, input);
      if (outcome.kind === "committed") return;
      input = outcome.retainedInput;
      signal.throwIfAborted();
      retries.failed(outcome.failure);
    }
  }

  async #attempt(
    harness: HarnessConnection,
    input: BundleInput,
  ): Promise<{ kind: "committed" } | { kind: "failed"; failure: unknown; retainedInput: BundleInput }> {
    const output = this.#init.output.begin();
    const attempt = new BundleAttempt(harness, this.#init.plan, input, {
      onOutput: (sink, data) => output.accept(sink, data),
      onState: this.#init.onState,
    });
    const running = runningBundle(attempt, this.#init.clock.monotonicMs());
    this.#running.add(running);
    try {
      const response = await attempt.run(this.#signal);
      const infos = await fullMonitoringInfos(harness, response);
      this.#signal.throwIfAborted();
      // From here to the end of the block nothing awaits: the bundle commits in one step.
      output.commit();
      const now = this.#init.clock.nowMs();
      for (const residual of residualsOf(response.residualRoots))
        this.#returned.push(
          bundleInputOf(
            [{ data: residual.element, elementCount: 1 }],
            residual.delayMs > 0 ? now + residual.delayMs : 0,
          ),
        );
      this.#init.onCommitted(infos);
      if (response.requiresFinalization) {
        const finalizing: Promise<unknown> = harness
          .instruct(harness.newInstructionId(), {
            $case: "finalizeBundle",
            value: { instructionId: attempt.instructionId },
          })
          // Finalization is best effort: a lost harness has nothing left to finalize.
          .catch((failure: unknown) => this.#init.log.warn({ err: failure }, "finalization was not answered"))
          .finally(() => this.#finalizing.delete(finalizing));
        this.#finalizing.add(finalizing);
      }
      return { kind: "committed" };
    } catch (failure) {
      output.abort();
      this.#init.onFailed(running.infos);
      return { kind: "failed", failure, retainedInput: attempt.retainedInput };
    } finally {
      this.#running.delete(running);
    }
  }
}
