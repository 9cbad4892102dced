/**
 * One bundle: takes elements and timers as they arrive, in order, pushes them through the descriptor's transforms, and
 * answers when the input's streams have ended.
 *
 * Invariants: outputs, timers and state writes are all sent before the answer; after an accepted split no element of
 * the residual is begun.
 */
import type {
  Elements_Data,
  Elements_Timers,
  ProcessBundleRequest_CacheToken,
  ProcessBundleResponse,
  ProcessBundleSplitRequest,
  ProcessBundleSplitResponse,
} from "../proto/gen/beam_fn_api.ts";
import type { MonitoringInfo } from "../proto/gen/metrics.ts";
import { varintSize, writeVarint } from "../runner/base/varint.ts";
import { ByteReader } from "./byte-stream.ts";
import type { DescriptorPlan } from "./descriptor-plan.ts";
import type { BundleServices, Emitted, Operator } from "./operator.ts";
import { createOperator, Sink } from "./operators.ts";
import { ProcessRestrictions } from "./restriction-operators.ts";
import type { StateClient } from "./state-client.ts";
import { BundleTimers, decodeTimers, timerStreamId } from "./timers.ts";
import type { FunctionRegistry } from "./user-functions.ts";
import { BundleState, type StateCache } from "./user-state.ts";
import type { WindowedValue } from "./windows.ts";

export interface BundleInit {
  readonly instructionId: string;
  readonly plan: DescriptorPlan;
  readonly functions: FunctionRegistry;
  readonly client: StateClient;
  readonly cache: StateCache;
  readonly cacheTokens: readonly ProcessBundleRequest_CacheToken[];
  readonly sendData: (part: Elements_Data) => void;
  readonly sendTimers: (part: Elements_Timers) => void;
  /** See SdkHarnessInit. */
  readonly messageBytes: number | undefined;
  readonly nowMs: () => number;
  readonly turn: () => Promise<void>;
}

type Work = () => Promise<void>;

export class BundleProcessor {
  readonly #init: BundleInit;
  readonly #services: BundleServices;
  readonly #operators = new Map<string, Operator>();
  readonly #sinks: Sink[] = [];
  /** By PCollection. */
  readonly #consumers = new Map<string, { readonly operator: Operator; readonly name: string }[]>();
  readonly #openStreams: Set<string>;
  #work: Work[] = [];
  #wake: (() => void) | undefined;
  /** Elements that have arrived. */
  #received = 0;
  /** Elements that are processed, or were. */
  #begun = 0;
  #isBusy = false;
  /** Elements from here on were given back. */
  #stop = Infinity;

  constructor(init: BundleInit) {
    this.#init = init;
    const { plan, instructionId } = init;
    const userToken = init.cacheTokens.find(({ type }) => type?.$case === "userState");
    this.#services = {
      instructionId,
      functions: init.functions,
      client: init.client,
      timers: new BundleTimers(),
      finalizers: [],
      residuals: [],
      nowMs: init.nowMs,
      turn: init.turn,
      state: new BundleState({
        instructionId,
        client: init.client,
        cache: init.cache,
        cacheToken: userToken === undefined ? undefined : Buffer.from(userToken.token).toString("latin1"),
      }),
    };
    this.#openStreams = new Set([
      plan.source.transformId,
      ...plan.timerFamilies.map(({ transformId, family }) => timerStreamId(transformId, family)),
    ]);
    const drain = (emitted: readonly Emitted[]) => this.#drain(emitted);
    for (const transform of plan.transforms) {
      const operator = createOperator({ transform, plan, services: this.#services, drain });
      this.#operators.set(transform.id, operator);
      for (const input of transform.mainInputs) this.#consume(input, operator, transform.proto.uniqueName);
    }
    for (const sinkPlan of plan.sinks) {
      const { transformId } = sinkPlan;
      const sink = new Sink(
        sinkPlan,
        (data, isLast) => init.sendData({ instructionId, transformId, data, isLast }),
        init.messageBytes,
      );
      this.#sinks.push(sink);
      this.#consume(sinkPlan.pcollectionId, sink, transformId);
    }
  }

  /** Callbacks that wait for the bundle's results to be durable. */
  get finalizers(): readonly (() => void)[] {
    return this.#services.finalizers;
  }

  #consume(pcollectionId: string, operator: Operator, name: string): void {
    this.#consumers.set(pcollectionId, [...(this.#consumers.get(pcollectionId) ?? []), { operator, name }]);
  }

  async #drain(emitted: readonly Emitted[]): Promise<void> {
    for (const { pcollectionId, element } of emitted)
      for (const { operator, name } of this.#consumers.get(pcollectionId) ?? [])
        await whileRunning(name, () => operator.receive(element));
  }

  onData(part: Elements_Data): void {
    const reader = new ByteReader(part.data);
    while (!reader.atEnd) {
      const element = this.#init.plan.source.coder.decode(reader) as WindowedValue;
      const index = this.#received++;
      this.#push(() => this.#element(index, element));
    }
    if (part.isLast) this.#end(part.transformId);
  }

  onTimers(part: Elements_Timers): void {
    const { transformId, timerFamilyId } = part;
    const family = this.#init.plan.timerFamilies.find(
      (candidate) => candidate.transformId === transformId && candidate.family === timerFamilyId,
    );
    if (family === undefined) throw new Error(`Transform ${transformId} has no timer family "${timerFamilyId}".`);
    const operator = this.#operators.get(transformId);
    const name = this.#init.plan.transforms.find(({ id }) => id === transformId)?.proto.uniqueName ?? transformId;
    for (const timer of decodeTimers(part.timers, timerFamilyId, family.coders)) {
      if (timer.cleared) throw new Error(`The runner has sent a cleared timer of family "${timerFamilyId}".`);
      this.#push(() => whileRunning(name, () => operator?.onTimer?.(timer)));
    }
    if (part.isLast) this.#end(timerStreamId(transformId, timerFamilyId));
  }

  #end(stream: string): void {
    this.#push(() => {
      this.#openStreams.delete(stream);
      return Promise.resolve();
    });
  }

  #push(work: Work): void {
    this.#work.push(work);
    this.#wake?.();
  }

  async #element(index: number, element: WindowedValue): Promise<void> {
    if (index >= this.#stop) return;
    this.#begun = index + 1;
    this.#isBusy = true;
    try {
      await this.#drain([{ pcollectionId: this.#init.plan.source.pcollectionId, element }]);
    } finally {
      this.#isBusy = false;
    }
  }

  /** Runs to the end. @throws what user code throws, or the runner's answer to a state request */
  async run(): Promise<ProcessBundleResponse> {
    for (const operator of this.#operators.values()) operator.start?.();
    while (this.#openStreams.size > 0) {
      const next = this.#work.shift();
      if (next !== undefined) await next();
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
    for (const operator of this.#operators.values()) operator.finish?.();
    await this.#services.state.flush();
    const { instructionId, plan, sendTimers } = this.#init;
    for (const { transformId, family } of plan.timerFamilies) {
      const timers = this.#services.timers.encoded(transformId, family);
      sendTimers({ instructionId, transformId, timerFamilyId: family, timers, isLast: true });
    }
    for (const sink of this.#sinks) sink.end();
    return {
      residualRoots: this.#services.residuals,
      monitoringInfos: [this.#elementCount()],
      requiresFinalization: this.#services.finalizers.length > 0,
      monitoringData: {},
      elements: undefined,
    };
  }

  /** Of the elements that came to the stage, those that were not given back. */
  #elementCount(): MonitoringInfo {
    const payload = new Uint8Array(varintSize(this.#begun));
    writeVarint(payload, 0, this.#begun);
    const labels = { PCOLLECTION: this.#init.plan.source.pcollectionId };
    const urn = "beam:metric:element_count:v1";
    return { urn, type: "beam:metrics:sum_int64:v1", payload, labels, startTime: undefined };
  }

  /** User code has thrown: what it wrote stays in the cache, under the bundle's token. */
  failed(): void {
    this.#services.state.leaveInCache();
  }

  /** Gives back what follows the fraction of the remainder: of the running restriction, or else whole elements. */
  split(request: ProcessBundleSplitRequest): ProcessBundleSplitResponse {
    const nothing: ProcessBundleSplitResponse = { primaryRoots: [], residualRoots: [], channelSplits: [] };
    const { transformId } = this.#init.plan.source;
    const desired = request.desiredSplits[transformId];
    if (desired === undefined) return nothing;
    const total = Math.min(this.#stop, Math.max(this.#received, Number(desired.estimatedInputElements)));
    const left = total - this.#begun;
    const keep = Math.ceil(left * desired.fractionOfRemainder);
    if (keep === 0 && this.#isBusy) {
      const running = [...this.#operators.values()].find((operator) => operator instanceof ProcessRestrictions);
      // The fraction is of the running restriction and all elements behind it; as good as none of it for the former.
      const split = running?.split(left === 0 ? desired.fractionOfRemainder : 0);
      if (split !== undefined) {
        this.#stop = this.#begun;
        return {
          primaryRoots: [split.primary],
          residualRoots: [split.residual],
          channelSplits: [channelSplit(transformId, this.#begun - 2, this.#begun)],
        };
      }
    }
    const stop = this.#begun + keep;
    if (stop >= total) return nothing;
    this.#stop = stop;
    return { ...nothing, channelSplits: [channelSplit(transformId, stop - 1, stop)] };
  }
}

/** What user code has thrown, with the transform's name. */
class UserCodeError extends Error {}

async function whileRunning(name: string, run: () => Promise<void> | undefined): Promise<void> {
  try {
    await run();
  } catch (failure) {
    if (failure instanceof UserCodeError) throw failure;
    throw new UserCodeError(`${String(failure)} [while running '${name}']`, { cause: failure });
  }
}

function channelSplit(transformId: string, lastPrimary: number, firstResidual: number) {
  return { transformId, lastPrimaryElement: BigInt(lastPrimary), firstResidualElement: BigInt(firstResidual) };
}
