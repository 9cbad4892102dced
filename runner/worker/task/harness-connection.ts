/**
 * One SDK harness as the worker sees it: its control stream, its data stream and who is waiting for what on them.
 * Instructions are answered by id; data is handed to the bundle that it belongs to. When any of its streams ends,
 * the harness is lost: everything that waits on it is rejected at once.
 *
 * Source: BeamFnControl.Control and BeamFnData.Data of beam_fn_api.proto.
 */
import type {
  Elements,
  InstructionRequest,
  InstructionResponse,
  StateRequest,
} from "../../../proto/gen/beam_fn_api.ts";
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { WeirError } from "../../base/errors.ts";
import type { HarnessId, InstructionId } from "../../base/ids.ts";

/** The request of an instruction, without its id. */
export type InstructionBody = NonNullable<InstructionRequest["request"]>;

/** A running bundle as whoever looks for bundles that stand still sees it. */
export interface WatchedBundle {
  readonly descriptorId: string;
  /** Grows with every message that the SDK sends for the bundle. */
  readonly activity: number;
  /** The SDK has told that it has consumed all that it has received, and there is more. */
  readonly awaitsInput: boolean;
  /** Its metrics so far. @returns undefined when the SDK does not tell; @throws WeirError when the harness is lost. */
  progress(): Promise<readonly MonitoringInfo[] | undefined>;
}

/** What a running bundle takes from the shared streams. */
export interface BundleStreams {
  readonly watched: WatchedBundle;
  /** One data message of a sink. What it returns is awaited before more of the stream is read: only disk may be awaited. */
  onData(transformId: string, data: Uint8Array, isLast: boolean): Promise<void> | void;
  onTimers(transformId: string, timerFamilyId: string, timers: Uint8Array, isLast: boolean): Promise<void> | void;
  /** Answers a state request; the response's id is filled in by the service. */
  onState(request: StateRequest): Promise<StateReply> | StateReply;
}

export type StateReply =
  | { readonly kind: "get"; readonly data: Uint8Array; readonly continuationToken: Uint8Array }
  | { readonly kind: "append" }
  | { readonly kind: "clear" };

interface PendingInstruction {
  readonly resolve: (response: InstructionResponse) => void;
  readonly reject: (failure: Error) => void;
}

/** A duplex stream's write half, as grpc-js gives it. */
export interface MessageSink<Message> {
  write(message: Message): boolean;
  once(event: "drain", listener: () => void): unknown;
  end(): void;
}

/** So many bundles are remembered that were given up while the SDK was busy with them: it may tell of them later. */
const MAX_ABANDONED = 1_000;

/** A harness that is idle closes its streams at once. */
const FINISH_MS = 1_000;

export class HarnessConnection {
  readonly harnessId: HarnessId;
  readonly #clock: Clock;
  readonly #pending = new Map<string, PendingInstruction>();
  readonly #bundles = new Map<string, BundleStreams>();
  /** Oldest first. */
  readonly #abandoned = new Set<string>();
  readonly #connected = Promise.withResolvers<void>();
  readonly #dataConnected = Promise.withResolvers<void>();
  readonly #lost = Promise.withResolvers<WeirError>();
  readonly #dataGone = Promise.withResolvers<void>();
  #control: MessageSink<InstructionRequest> | undefined;
  #data: MessageSink<Buffer> | undefined;
  readonly #lossListeners = new Set<(failure: WeirError) => void>();
  #lostError: WeirError | undefined;
  #isEnding = false;
  #nextInstruction = 1;
  /** Set where the harness's end is told by other means than its streams; never rejects. */
  delayLoss: (() => Promise<void>) | undefined;

  constructor(harnessId: HarnessId, clock: Clock = systemClock) {
    this.harnessId = harnessId;
    this.#clock = clock;
    // A connection that nobody waits for any more must not end the process.
    this.#connected.promise.catch(() => undefined);
    this.#dataConnected.promise.catch(() => undefined);
  }

  /** Resolves when the control stream is there. @throws WeirError when the harness is lost before. */
  get connected(): Promise<void> {
    return this.#connected.promise;
  }

  /** Resolves, once, with the reason when the harness is lost. */
  get lost(): Promise<WeirError> {
    return this.#lost.promise;
  }

  /**
   * Calls `listener` when the harness is lost, at once if it is already. @returns how to stop listening: unlike a
   * reaction to `lost`, a bundle's listener must not outlive the bundle, or its input would.
   */
  onLost(listener: (failure: WeirError) => void): () => void {
    if (this.#lostError !== undefined) listener(this.#lostError);
    else this.#lossListeners.add(listener);
    return () => this.#lossListeners.delete(listener);
  }

  get lostError(): WeirError | undefined {
    return this.#lostError;
  }

  attachControl(sink: MessageSink<InstructionRequest>): void {
    this.#control = sink;
    this.#connected.resolve();
  }

  attachData(sink: MessageSink<Buffer>): void {
    this.#data = sink;
    this.#dataConnected.resolve();
  }

  /** A new id; the harness prefix makes it unique over the worker's harnesses, since state streams may be shared. */
  newInstructionId(): InstructionId {
    return `${this.harnessId}-${this.#nextInstruction++}` as InstructionId;
  }

  /** Sends an instruction. @throws WeirError when the harness is lost before it answers. */
  instruct(instructionId: InstructionId, request: InstructionBody): Promise<InstructionResponse> {
    if (this.#lostError !== undefined) return Promise.reject(this.#lostError);
    const control = this.#control;
    if (control === undefined) return this.connected.then(() => this.instruct(instructionId, request));
    const answer = Promise.withResolvers<InstructionResponse>();
    this.#pending.set(instructionId, answer);
    control.write({ instructionId, request });
    return answer.promise;
  }

  /** Routes data and state of an instruction to `streams` until `closeBundle`. */
  openBundle(instructionId: InstructionId, streams: BundleStreams): void {
    this.#bundles.set(instructionId, streams);
  }

  /** @param isAnswered false: it is given up, and the SDK does not know */
  closeBundle(instructionId: InstructionId, isAnswered = true): void {
    this.#bundles.delete(instructionId);
    if (isAnswered) return;
    this.#abandoned.add(instructionId);
    const [oldest] = this.#abandoned;
    if (this.#abandoned.size > MAX_ABANDONED && oldest !== undefined) this.#abandoned.delete(oldest);
  }

  /** True for a bundle that was given up before the SDK answered: what the SDK failed of then is nothing of the job's. */
  isAbandoned(instructionId: string): boolean {
    return this.#abandoned.has(instructionId);
  }

  /** Those that run now, by instruction id. */
  get bundles(): ReadonlyMap<string, { readonly watched: WatchedBundle }> {
    return this.#bundles;
  }

  bundle(instructionId: string): BundleStreams | undefined {
    return this.#bundles.get(instructionId);
  }

  /**
   * Writes one encoded Elements message; waits for the stream to open, and to drain when it is full.
   * @throws WeirError when the harness is lost.
   */
  async sendData(message: Buffer): Promise<void> {
    if (this.#data === undefined) await this.#dataConnected.promise;
    if (this.#lostError !== undefined) throw this.#lostError;
    const data = this.#data;
    if (data === undefined || data.write(message)) return;
    await new Promise<void>((resolve) => {
      const forget = this.onLost(() => resolve());
      data.once("drain", () => {
        forget();
        resolve();
      });
    });
    if (this.#lostError !== undefined) throw this.#lostError;
  }

  /** Before the harness is asked again. */
  pause(ms: number): Promise<void> {
    return this.#clock.sleep(ms);
  }

  /** An answer from the control stream. Answers to unknown ids are late ones of bundles given up: ignored. */
  onInstructionResponse(response: InstructionResponse): void {
    const pending = this.#pending.get(response.instructionId);
    if (pending === undefined) return;
    this.#pending.delete(response.instructionId);
    pending.resolve(response);
  }

  /** Hands each part of a data message to its bundle, in order. */
  async onElements(elements: Elements): Promise<void> {
    for (const part of elements.data) {
      const wait = this.#bundles.get(part.instructionId)?.onData(part.transformId, part.data, part.isLast);
      if (wait !== undefined) await wait;
    }
    for (const part of elements.timers) {
      const bundle = this.#bundles.get(part.instructionId);
      const wait = bundle?.onTimers(part.transformId, part.timerFamilyId, part.timers, part.isLast);
      if (wait !== undefined) await wait;
    }
  }

  /** One of its streams has ended: it is lost, when `delayLoss` has had its time to give a better reason. */
  streamEnded(reason: string): void {
    if (this.#lostError !== undefined || this.#isEnding) return;
    this.#isEnding = true;
    if (this.delayLoss === undefined) this.lose(reason);
    else void this.delayLoss().then(() => this.lose(reason));
  }

  /** It has closed its data stream, or lost it. */
  dataEnded(): void {
    this.#dataGone.resolve();
  }

  /**
   * Tells the harness that there is nothing more to do. Resolves when it has closed its data stream, right behind which
   * it tears its DoFns down, or after a while. It is not lost by that.
   */
  async finish(): Promise<void> {
    if (this.#lostError !== undefined || this.#isEnding || this.#data === undefined) return;
    this.#isEnding = true;
    this.#control?.end();
    const late = new AbortController();
    await Promise.race([this.#dataGone.promise, this.#clock.sleep(FINISH_MS, late.signal).catch(() => undefined)]);
    late.abort();
  }

  /** Ends everything that waits on this harness. Idempotent. */
  lose(reason: string, retry = true): void {
    if (this.#lostError !== undefined) return;
    const error = new WeirError({
      code: "UNAVAILABLE",
      domain: "external",
      message: `SDK harness ${this.harnessId} is lost: ${reason.replace(/\.$/, "")}.`,
      retry,
      ids: { harness: this.harnessId },
    });
    this.#lostError = error;
    this.#connected.reject(error);
    this.#dataConnected.reject(error);
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    this.#bundles.clear();
    this.#lost.resolve(error);
    for (const listener of [...this.#lossListeners]) listener(error);
    this.#lossListeners.clear();
    this.#control?.end();
    this.#data?.end();
  }
}
