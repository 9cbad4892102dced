/**
 * Runs one bundle of a streaming task until it commits: each attempt has its own output segments, state overlay and
 * timers; when the response is there they all become visible in one synchronous step, otherwise none of them does and
 * what is left of the input runs again, until its attempts are used up.
 *
 * Invariant: between the decision to commit and the end of the commit nothing awaits.
 */
import type { ProcessBundleRequest_CacheToken, StateRequest } from "../../../proto/gen/beam_fn_api.ts";
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import type { Log } from "../../base/log.ts";
import { BundleAttempt, type BundleSplit } from "../task/bundle-attempt.ts";
import type { BundlePlan } from "../task/bundle-messages.ts";
import { type Residual, residualsOf } from "../task/bundle-attempt.ts";
import { BundleRetries } from "../task/bundle-retries.ts";
import type { BundleInput } from "../task/bundle-input.ts";
import type { HarnessConnection, StateReply } from "../task/harness-connection.ts";
import { fullMonitoringInfos } from "../task/short-ids.ts";
import type { StageOutput } from "../task/stage-executor.ts";
import type { BundleProgress } from "./bundle-progress.ts";
import type { Finalize } from "./finalizers.ts";
import type { FiringTimers, Timers, UserState } from "./stream-ports.ts";

export interface BundleRunnerInit {
  readonly stageName: string;
  readonly plan: BundlePlan;
  readonly output: StageOutput;
  readonly userState: UserState | undefined;
  readonly timers: Timers | undefined;
  /** State requests that are not for user state: side inputs. */
  readonly onState: (request: StateRequest) => Promise<StateReply> | StateReply;
  readonly sideInputTokens: () => ProcessBundleRequest_CacheToken[];
  readonly maxBundleAttempts: number;
  readonly progress?: BundleProgress;
  readonly harness: (signal: AbortSignal) => Promise<HarnessConnection>;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** What a committed bundle leaves to its task; called within the commit. */
export interface BundleCommit {
  readonly residuals: readonly Residual[];
  readonly infos: readonly MonitoringInfo[];
  /** Of user state. */
  readonly writtenBytes: number;
  /** Set when the SDK asked for finalization. */
  readonly finalize: Finalize | undefined;
}

const USER_STATE_CASES: ReadonlySet<string> = new Set([
  "bagUserState",
  "multimapUserState",
  "multimapKeysUserState",
  "multimapEntriesUserState",
  "orderedListUserState",
]);

export class BundleRunner {
  readonly #init: BundleRunnerInit;
  #attempt: BundleAttempt | undefined;
  #harness: HarnessConnection | undefined;

  constructor(init: BundleRunnerInit) {
    this.#init = init;
  }

  /** Splits the attempt that runs now, as BundleAttempt does. */
  async split(fractionOfRemainder: number, accept: (split: BundleSplit) => void): Promise<void> {
    await this.#attempt?.split(fractionOfRemainder, accept);
  }

  /**
   * Runs until commit.
   * @param onCommit called in the commit's step, after outputs, state and timers have become visible
   * @throws WeirError when the attempts are used up or the failure is not one that another attempt can mend
   */
  async run(
    first: BundleInput,
    firing: FiringTimers | undefined,
    onCommit: (commit: BundleCommit) => void,
  ): Promise<void> {
    const { signal } = this.#init;
    let input = first;
    const retries = new BundleRetries(this.#init);
    for (;;) {
      signal.throwIfAborted();
      const harness = await this.#init.harness(signal);
      if (this.#harness !== undefined && this.#harness !== harness) this.#init.userState?.harnessChanged?.();
      this.#harness = harness;
      const outcome = await this.#run(harness, input, firing, onCommit);
      if (outcome === undefined) return;
      input = outcome.retainedInput;
      signal.throwIfAborted();
      retries.failed(outcome.failure);
    }
  }

  async #run(
    harness: HarnessConnection,
    input: BundleInput,
    firing: FiringTimers | undefined,
    onCommit: (commit: BundleCommit) => void,
  ): Promise<{ readonly failure: unknown; readonly retainedInput: BundleInput } | undefined> {
    const { userState, timers, sideInputTokens, signal, plan } = this.#init;
    const output = this.#init.output.begin();
    const stateBundle = userState?.beginBundle();
    const timersBundle = timers?.beginBundle();
    const attempt = new BundleAttempt(
      harness,
      plan,
      input,
      {
        onOutput: (sink, data) => output.accept(sink, data),
        onTimers: (transformId, timerFamilyId, data) => timersBundle?.accept(transformId, timerFamilyId, data),
        onState: (request) =>
          stateBundle !== undefined && USER_STATE_CASES.has(request.stateKey?.type?.$case ?? "")
            ? stateBundle.answer(request)
            : this.#init.onState(request),
      },
      { timers: firing?.batches ?? [], cacheTokens: [...(userState?.cacheTokens() ?? []), ...sideInputTokens()] },
    );
    this.#attempt = attempt;
    let hasCommitted = false;
    this.#init.progress?.begin(attempt);
    try {
      const response = await attempt.run(signal);
      const infos = await fullMonitoringInfos(harness, response);
      signal.throwIfAborted();
      // From here to the end of the block nothing awaits: the bundle commits in one step.
      output.commit();
      stateBundle?.commit();
      firing?.commit();
      timersBundle?.commit();
      hasCommitted = true;
      onCommit({
        residuals: residualsOf(response.residualRoots),
        infos,
        writtenBytes: stateBundle?.writtenBytes ?? 0,
        finalize: response.requiresFinalization ? () => this.#finalize(harness, attempt) : undefined,
      });
      return undefined;
    } catch (failure) {
      output.abort();
      stateBundle?.abort();
      timersBundle?.abort();
      return { failure, retainedInput: attempt.retainedInput };
    } finally {
      this.#attempt = undefined;
      this.#init.progress?.end(hasCommitted);
    }
  }

  /** Best effort: a lost harness has nothing left to finalize. */
  async #finalize(harness: HarnessConnection, attempt: BundleAttempt): Promise<void> {
    await harness
      .instruct(harness.newInstructionId(), {
        $case: "finalizeBundle",
        value: { instructionId: attempt.instructionId },
      })
      .catch((failure: unknown) => this.#init.log.warn({ err: failure }, "finalization was not answered"));
  }
}
