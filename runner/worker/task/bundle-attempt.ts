/**
 * One attempt of one bundle on one harness: sends the retained input, receives every output, answers state requests,
 * and splits when asked. It holds nothing back itself: the caller's `onOutput` writes into tentative segments.
 *
 * Invariant: it ends when the ProcessBundleResponse and the last message of every sink are there, or at once with the
 * SDK's error; it never waits for a data stream that a failed bundle did not open. It does not end before splits that
 * were asked for are answered: what they give away would be run by nobody, or twice.
 */
import type {
  BundleApplication,
  DelayedBundleApplication,
  InstructionResponse,
  ProcessBundleProgressResponse,
  ProcessBundleResponse,
  StateRequest,
} from "../../../proto/gen/beam_fn_api.ts";
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import { WeirError } from "../../base/errors.ts";
import type { InstructionId } from "../../base/ids.ts";
import { type BundleExtras, type BundlePlan, dataMessages, embeddedElements, NO_EXTRAS } from "./bundle-messages.ts";
import type { BundleStreams, HarnessConnection, StateReply, WatchedBundle } from "./harness-connection.ts";
import { OutputJoiner } from "./output-joiner.ts";
import { fullMonitoringInfos } from "./short-ids.ts";
import { type BundleInput, splitInput } from "./bundle-input.ts";

/** Python's SDK queues five messages for a bundle; the next one would keep the stream from its other bundles. */
const MESSAGES_AHEAD = 4;
const CONSUMPTION_POLL_MS = 20;

/** The SDK answered the bundle with an error: user code raised. */
export class BundleFailedError extends WeirError {
  constructor(sdkError: string, ids: Readonly<Record<string, string>>) {
    super({ code: "ABORTED", domain: "user", message: sdkError, retry: true, ids });
  }
}

export interface BundleHandlers {
  onOutput(sinkTransformId: string, data: Uint8Array): Promise<void> | void;
  onState(request: StateRequest): Promise<StateReply> | StateReply;
  /** Timers that the SDK has set or cleared. */
  onTimers?(transformId: string, timerFamilyId: string, timers: Uint8Array): void;
}

/** Elements that a split or the SDK itself gave back. */
export interface Residual {
  readonly element: Uint8Array;
  readonly delayMs: number;
  /** The least of the output watermarks that the SDK told, in milliseconds; undefined when it told none. */
  readonly watermarkMs: number | undefined;
}

export interface BundleSplit {
  /** What the bundle keeps. */
  readonly primary: BundleInput;
  readonly residuals: readonly Residual[];
  readonly residualChannel: BundleInput;
}

export class BundleAttempt implements WatchedBundle {
  readonly instructionId: InstructionId;
  readonly #harness: HarnessConnection;
  readonly #plan: BundlePlan;
  readonly #handlers: BundleHandlers;
  readonly #extras: BundleExtras;
  /** Sinks, and streams of timers. */
  readonly #sinks: ReadonlySet<string>;
  readonly #openSinks: Set<string>;
  readonly #outputsEnded = Promise.withResolvers<void>();
  #input: BundleInput;
  /** The SDK has split an element of this source, and did not say where in the input it is. */
  #lostSplit: string | undefined;
  #answered = false;
  /** Those that are not answered yet. */
  readonly #splits = new Set<Promise<boolean>>();
  #activity = 0;
  /** As the SDK told last; undefined where it tells nothing. */
  #isConsuming: boolean | undefined;
  #isSent = false;

  constructor(
    harness: HarnessConnection,
    plan: BundlePlan,
    input: BundleInput,
    handlers: BundleHandlers,
    extras: BundleExtras = NO_EXTRAS,
  ) {
    this.#extras = extras;
    this.#harness = harness;
    this.#plan = plan;
    this.#input = input;
    this.#handlers = handlers;
    this.instructionId = harness.newInstructionId();
    const families = plan.timerFamilies ?? [];
    const timers = families.map(({ transformId, timerFamilyId }) => timerStream(transformId, timerFamilyId));
    this.#sinks = new Set([...plan.sinkTransformIds, ...timers]);
    this.#openSinks = new Set(this.#sinks);
    this.#outputsEnded.promise.catch(() => undefined);
    if (this.#openSinks.size === 0) this.#outputsEnded.resolve();
  }

  get descriptorId(): string {
    return this.#plan.descriptorId;
  }

  get activity(): number {
    return this.#activity;
  }

  /** What a retry would have to run: the input less what accepted splits gave away. */
  get retainedInput(): BundleInput {
    return this.#input;
  }

  /**
   * Runs the bundle.
   * @throws BundleFailedError with the SDK's own message, or the harness's loss, what a handler threw, or the
   *   signal's reason; the SDK may then still be busy with the bundle, and what it sends is dropped.
   */
  async run(signal: AbortSignal): Promise<ProcessBundleResponse> {
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => undefined);
    const onAbort = () => aborted.reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    const outputs = new OutputJoiner((sink, data) => this.#handlers.onOutput(sink, data), outputOf);
    const timers = new OutputJoiner((stream, data) => this.#handlers.onTimers?.(...familyOf(stream), data), outputOf);
    const streams: BundleStreams = {
      watched: this,
      onData: (transformId, data, isLast) => this.#onOutput(outputs, transformId, data, isLast),
      onTimers: (transformId, family, data, isLast) =>
        this.#onOutput(timers, timerStream(transformId, family), data, isLast),
      onState: (request) => {
        this.#activity++;
        return this.#handlers.onState(request);
      },
    };
    this.#harness.openBundle(this.instructionId, streams);
    const elements = embeddedElements(this.instructionId, this.#plan, this.#input, this.#extras);
    this.#isSent = elements !== undefined;
    let isSettled = false;
    const forgetHarness = this.#harness.onLost((failure) => this.#outputsEnded.reject(failure));
    try {
      const answer = this.#harness.instruct(this.instructionId, {
        $case: "processBundle",
        value: {
          processBundleDescriptorId: this.#plan.descriptorId,
          cacheTokens: this.#extras.cacheTokens,
          elements,
          hasNoState: false,
          onlyBundleForKeys: false,
        },
      });
      const settled = answer.finally(() => {
        isSettled = true;
        this.#answered = true;
      });
      const sending = elements === undefined ? this.#send() : Promise.resolve();
      // A bundle that fails early stops reading: do not wait for its input to drain.
      const response = this.#check(await Promise.race([settled, sending.then(() => settled), aborted.promise]));
      // An SDK may put small outputs into its answer instead of on the data stream.
      if (response.elements !== undefined) await this.#harness.onElements(response.elements);
      await Promise.race([this.#outputsEnded.promise, aborted.promise]);
      await Promise.race([Promise.allSettled(this.#splits), aborted.promise]);
      // What it has given back would be lost.
      if (this.#lostSplit !== undefined)
        throw new WeirError({
          code: "INTERNAL",
          domain: "external",
          message: `The SDK split a bundle of ${this.#lostSplit} and told no channel split for it.`,
          retry: true,
        });
      return response;
    } catch (failure) {
      this.#answered = true;
      await Promise.race([Promise.allSettled(this.#splits), aborted.promise.catch(() => undefined)]);
      throw failure;
    } finally {
      forgetHarness();
      signal.removeEventListener("abort", onAbort);
      this.#answered = true;
      this.#harness.closeBundle(this.instructionId, isSettled);
    }
  }

  /**
   * Asks the SDK to give back a part of what is left. @param fractionOfRemainder 0 = keep as little as can be.
   * @param accept takes what is given back, which is input of its own from then on; called before the bundle ends
   * @returns false when the SDK does not split now
   */
  split(fractionOfRemainder: number, accept: (split: BundleSplit) => void): Promise<boolean> {
    if (this.#answered) return Promise.resolve(false);
    const asked = this.#harness.instruct(this.#harness.newInstructionId(), {
      $case: "processBundleSplit",
      value: {
        instructionId: this.instructionId,
        desiredSplits: {
          [this.#plan.sourceTransformId]: {
            fractionOfRemainder,
            allowedSplitPoints: [],
            estimatedInputElements: BigInt(this.#input.elementCount),
          },
        },
      },
    });
    const split = asked
      .then((answer) => this.#onSplit(answer, accept))
      .finally(() => {
        this.#splits.delete(split);
      });
    this.#splits.add(split);
    return split;
  }

  #onSplit({ error, response }: InstructionResponse, accept: (split: BundleSplit) => void): boolean {
    if (error !== "" || response?.$case !== "processBundleSplit") return false;
    const { primaryRoots, residualRoots, channelSplits } = response.value;
    // A bundle has one source, which Java's SDK leaves unnamed.
    const { sourceTransformId, skip } = this.#plan;
    const channel = channelSplits.find(({ transformId }) => transformId === sourceTransformId || transformId === "");
    if (channel === undefined) {
      if (primaryRoots.length + residualRoots.length > 0) this.#lostSplit = sourceTransformId;
      return false;
    }
    const { primary, residualChannel } = splitInput(
      this.#input,
      {
        lastPrimaryElement: Number(channel.lastPrimaryElement),
        firstResidualElement: Number(channel.firstResidualElement),
      },
      primaryRoots.map((root: BundleApplication) => root.element),
      skip,
    );
    this.#input = primary;
    accept({ primary, residuals: residualsOf(residualRoots), residualChannel });
    return true;
  }

  get awaitsInput(): boolean {
    return this.#isConsuming === false && !this.#isSent;
  }

  async progress(): Promise<readonly MonitoringInfo[] | undefined> {
    const answer = await this.#askProgress();
    return answer === undefined ? undefined : fullMonitoringInfos(this.#harness, answer);
  }

  async #askProgress(): Promise<ProcessBundleProgressResponse | undefined> {
    if (this.#answered) return undefined;
    const answer = await this.#harness.instruct(this.#harness.newInstructionId(), {
      $case: "processBundleProgress",
      value: { instructionId: this.instructionId },
    });
    if (answer.error !== "" || answer.response?.$case !== "processBundleProgress") return undefined;
    this.#isConsuming = answer.response.value.consumingReceivedData;
    return answer.response.value;
  }

  /** Output that cannot be taken fails the bundle, not the harness: it may well be the pipeline's own coder. */
  #onOutput(joiner: OutputJoiner, stream: string, data: Uint8Array, isLast: boolean): Promise<void> | void {
    this.#activity++;
    try {
      if (!this.#sinks.has(stream)) throw unknownSink(stream);
      const wait = data.length > 0 ? joiner.add(stream, data) : undefined;
      if (wait === undefined && !isLast) return undefined;
      const ended = isLast ? (wait === undefined ? joiner.end(stream) : wait.then(() => joiner.end(stream))) : wait;
      if (ended !== undefined)
        return ended.then(
          () => (isLast ? this.#endSink(stream) : undefined),
          (failure: unknown) => this.#outputsEnded.reject(failure),
        );
    } catch (failure) {
      this.#outputsEnded.reject(failure);
    }
    if (isLast) this.#endSink(stream);
    return undefined;
  }

  #endSink(sink: string): void {
    if (this.#openSinks.delete(sink) && this.#openSinks.size === 0) this.#outputsEnded.resolve();
  }

  async #send(): Promise<void> {
    let ahead = 0;
    for (const message of dataMessages(this.instructionId, this.#plan, this.#input, this.#extras)) {
      if (ahead++ >= MESSAGES_AHEAD) await this.#untilTaken();
      if (this.#answered) return;
      await this.#harness.sendData(message);
    }
    this.#isSent = true;
  }

  /** While the SDK is busy with what it has, other bundles' messages go first on the stream that they share. */
  async #untilTaken(): Promise<void> {
    if (this.#plan.tellsConsumption !== true) return;
    while (!this.#answered && this.#harness.bundles.size > 1) {
      await this.#askProgress();
      if (this.#isConsuming !== true) return;
      await this.#harness.pause(CONSUMPTION_POLL_MS);
    }
  }

  #check(response: InstructionResponse): ProcessBundleResponse {
    if (response.error !== "")
      throw new BundleFailedError(response.error, { bundle: this.instructionId, harness: this.#harness.harnessId });
    if (response.response?.$case === "processBundle") return response.response.value;
    return {
      residualRoots: [],
      monitoringInfos: [],
      requiresFinalization: false,
      monitoringData: {},
      elements: undefined,
    };
  }
}

function timerStream(transformId: string, timerFamilyId: string): string {
  return `${transformId}\n${timerFamilyId}`;
}

function familyOf(timerStream: string): [transformId: string, timerFamilyId: string] {
  const [transformId = "", timerFamilyId = ""] = timerStream.split("\n");
  return [transformId, timerFamilyId];
}

/** What a stream from the SDK is, for people. */
function outputOf(stream: string): string {
  return `output of transform "${stream.replace("\n", '", timer family "')}"`;
}

function unknownSink(stream: string): WeirError {
  return new WeirError({
    code: "INTERNAL",
    domain: "external",
    message: `The SDK sent ${outputOf(stream)}, which is no sink of the bundle.`,
    retry: true,
  });
}

/** Residual roots as input elements with their delays and watermarks. */
export function residualsOf(roots: readonly DelayedBundleApplication[]): Residual[] {
  return roots.flatMap((root) => {
    if (root.application === undefined) return [];
    const delay = root.requestedTimeDelay;
    const watermarks = Object.values(root.application.outputWatermarks).map(
      (time) => Number(time.seconds) * 1000 + Math.floor(time.nanos / 1_000_000),
    );
    return [
      {
        element: root.application.element,
        delayMs: delay === undefined ? 0 : Number(delay.seconds) * 1000 + delay.nanos / 1_000_000,
        watermarkMs: watermarks.length === 0 ? undefined : Math.min(...watermarks),
      },
    ];
  });
}
