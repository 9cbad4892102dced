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
  Elements,
  InstructionResponse,
  ProcessBundleRequest_CacheToken,
  ProcessBundleResponse,
  StateRequest,
} from "../../../proto/gen/beam_fn_api.ts";
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import { WeirError } from "../../base/errors.ts";
import type { InstructionId } from "../../base/ids.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import { encodeData, encodeTimers } from "./encode-elements.ts";
import type { BundleStreams, HarnessConnection, StateReply, WatchedBundle } from "./harness-connection.ts";
import { fullMonitoringInfos } from "./short-ids.ts";
import { type BundleInput, splitInput } from "./bundle-input.ts";

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

/** What a bundle has beside its elements. */
export interface BundleExtras {
  /** Fired timers, in order: sent after the elements. */
  readonly timers: readonly {
    readonly transformId: string;
    readonly timerFamilyId: string;
    readonly timers: Uint8Array;
  }[];
  readonly cacheTokens: ProcessBundleRequest_CacheToken[];
}

const NO_EXTRAS: BundleExtras = { timers: [], cacheTokens: [] };

export interface BundlePlan {
  readonly descriptorId: string;
  readonly sourceTransformId: string;
  readonly sinkTransformIds: readonly string[];
  /** Every timer family of the stage: its streams are ended in both directions. */
  readonly timerFamilies?: readonly { readonly transformId: string; readonly timerFamilyId: string }[];
  /** Bytes of one message on the Data stream. */
  readonly chunkBytes: number;
  readonly skip: Skip;
  /** The SDK takes small input in the request itself. */
  readonly embedsElements?: boolean;
}

/** Java's SDK has it, Python's (2.77), Go's (2.77) and TypeScript's (2.49) have not. */
const EMBEDDING_CAPABILITY = "beam:protocol:control_request_elements_embedding:v1";
/** Larger input is no longer small beside its request, and should not delay others' instructions. */
const MAX_EMBEDDED_BYTES = 16 * 1024;

/** Whether an environment's harnesses take small input in the request. */
export function takesEmbeddedElements(environment: { readonly capabilities: readonly string[] } | undefined): boolean {
  return environment?.capabilities.includes(EMBEDDING_CAPABILITY) === true;
}

/** Elements that a split or the SDK itself gave back. */
export interface Residual {
  readonly element: Uint8Array;
  readonly delayMs: number;
  /** The least of the output watermarks that the SDK told, in milliseconds; undefined when it told none. */
  readonly watermarkMs: number | undefined;
}

export interface BundleSplit {
  readonly residuals: readonly Residual[];
  readonly residualChannel: BundleInput;
}

export class BundleAttempt implements WatchedBundle {
  readonly instructionId: InstructionId;
  readonly #harness: HarnessConnection;
  readonly #plan: BundlePlan;
  readonly #handlers: BundleHandlers;
  readonly #extras: BundleExtras;
  /** Sinks, and timer families as "transform\nfamily". */
  readonly #openSinks: Set<string>;
  readonly #outputsEnded = Promise.withResolvers<void>();
  #input: BundleInput;
  /** The SDK has split an element of this source, and did not say where in the input it is. */
  #lostSplit: string | undefined;
  #answered = false;
  /** Those that are not answered yet. */
  readonly #splits = new Set<Promise<boolean>>();
  #activity = 0;

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
    this.#openSinks = new Set(plan.sinkTransformIds);
    for (const family of plan.timerFamilies ?? [])
      this.#openSinks.add(`${family.transformId}\n${family.timerFamilyId}`);
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
    const streams: BundleStreams = {
      watched: this,
      onData: (transformId, data, isLast) => {
        this.#activity++;
        return this.#onData(transformId, data, isLast);
      },
      onTimers: (transformId, timerFamilyId, timers, isLast) => {
        this.#activity++;
        try {
          if (timers.length > 0) this.#handlers.onTimers?.(transformId, timerFamilyId, timers);
        } catch (failure) {
          this.#outputsEnded.reject(failure);
        }
        if (isLast) this.#endSink(`${transformId}\n${timerFamilyId}`);
      },
      onState: (request) => {
        this.#activity++;
        return this.#handlers.onState(request);
      },
    };
    this.#harness.openBundle(this.instructionId, streams);
    const elements = this.#embeddedElements();
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
      this.#harness.closeBundle(this.instructionId);
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
    accept({ residuals: residualsOf(residualRoots), residualChannel });
    return true;
  }

  /** Its metrics so far. @returns undefined when the SDK does not tell; @throws WeirError when the harness is lost. */
  async progress(): Promise<readonly MonitoringInfo[] | undefined> {
    if (this.#answered) return undefined;
    const answer = await this.#harness.instruct(this.#harness.newInstructionId(), {
      $case: "processBundleProgress",
      value: { instructionId: this.instructionId },
    });
    if (answer.error !== "" || answer.response?.$case !== "processBundleProgress") return undefined;
    return fullMonitoringInfos(this.#harness, answer.response.value);
  }

  /** Output that cannot be taken fails the bundle, not the harness: it may well be the pipeline's own coder. */
  #onData(transformId: string, data: Uint8Array, isLast: boolean): Promise<void> | void {
    const fail = (failure: unknown) => this.#outputsEnded.reject(failure);
    const end = () => {
      if (isLast) this.#endSink(transformId);
    };
    let wait: Promise<void> | void = undefined;
    try {
      if (!this.#plan.sinkTransformIds.includes(transformId)) throw unknownSink(transformId);
      if (data.length > 0) wait = this.#handlers.onOutput(transformId, data);
    } catch (failure) {
      fail(failure);
    }
    if (wait !== undefined) return wait.then(end, fail);
    end();
    return undefined;
  }

  #endSink(sink: string): void {
    if (this.#openSinks.delete(sink) && this.#openSinks.size === 0) this.#outputsEnded.resolve();
  }

  /** The whole input with every stream's end, where the SDK takes it so and it is small. */
  #embeddedElements(): Elements | undefined {
    const { sourceTransformId: transformId, timerFamilies = [], embedsElements } = this.#plan;
    const { timers } = this.#extras;
    const byteLength = timers.reduce((sum, batch) => sum + batch.timers.length, this.#input.byteLength);
    if (embedsElements !== true || byteLength > MAX_EMBEDDED_BYTES) return undefined;
    const { instructionId } = this;
    const none = new Uint8Array();
    const data = this.#input.chunks.map((chunk) => ({ instructionId, transformId, data: chunk.data, isLast: false }));
    return {
      data: [...data, { instructionId, transformId, data: none, isLast: true }],
      timers: [
        ...timers.map((batch) => ({ instructionId, ...batch, isLast: false })),
        ...timerFamilies.map((family) => ({ instructionId, ...family, timers: none, isLast: true })),
      ],
    };
  }

  async #send(): Promise<void> {
    const { sourceTransformId, chunkBytes } = this.#plan;
    let batch: Uint8Array[] = [];
    let batchBytes = 0;
    for (const chunk of this.#input.chunks) {
      if (this.#answered) return;
      if (batchBytes > 0 && batchBytes + chunk.data.length > chunkBytes) {
        await this.#harness.sendData(encodeData(this.instructionId, sourceTransformId, batch, false));
        batch = [];
        batchBytes = 0;
      }
      batch.push(chunk.data);
      batchBytes += chunk.data.length;
    }
    if (this.#answered) return;
    if (batchBytes > 0) await this.#harness.sendData(encodeData(this.instructionId, sourceTransformId, batch, false));
    for (const { transformId, timerFamilyId, timers } of this.#extras.timers) {
      if (this.#answered) return;
      await this.#harness.sendData(encodeTimers(this.instructionId, transformId, timerFamilyId, [timers], false));
    }
    // On its own: the Python SDK drops data that comes with the last message.
    await this.#harness.sendData(encodeData(this.instructionId, sourceTransformId, [], true));
    for (const { transformId, timerFamilyId } of this.#plan.timerFamilies ?? [])
      await this.#harness.sendData(encodeTimers(this.instructionId, transformId, timerFamilyId, [], true));
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

function unknownSink(transformId: string): WeirError {
  return new WeirError({
    code: "INTERNAL",
    domain: "external",
    message: `The SDK sent output of transform "${transformId}", which is no sink of the bundle.`,
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
