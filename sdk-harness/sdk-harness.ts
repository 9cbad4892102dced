/**
 * An SDK harness in TypeScript: instructions, elements and state answers in, by method calls; their counterparts out,
 * by the RunnerPort. It knows no gRPC, no clock and no chance of its own, so that a simulation can run it.
 *
 * Invariants: what arrives for an instruction before the instruction does waits for it (control and data are streams
 * of their own); what arrives after its end is dropped.
 * Source: the Fn API of beam_fn_api.proto.
 */
import type {
  Elements_Data,
  Elements_Timers,
  Elements,
  InstructionRequest,
  InstructionResponse,
  ProcessBundleDescriptor,
  ProcessBundleRequest,
  StateRequest,
  StateResponse,
} from "../proto/gen/beam_fn_api.ts";
import { BundleProcessor } from "./bundle-processor.ts";
import { DescriptorPlan } from "./descriptor-plan.ts";
import { StateClient } from "./state-client.ts";
import type { FunctionRegistry } from "./user-functions.ts";
import { StateCache } from "./user-state.ts";

/** The runner, as the harness sends to it. */
export interface RunnerPort {
  respond(response: InstructionResponse): void;
  elements(elements: Elements): void;
  state(request: StateRequest): void;
  /** GetProcessBundleDescriptor. */
  descriptor(descriptorId: string): ProcessBundleDescriptor | undefined;
}

export interface SdkHarnessInit {
  readonly runner: RunnerPort;
  readonly functions: FunctionRegistry;
  /** Processing time, milliseconds since 1970. */
  readonly nowMs: () => number;
  /** Resolves later, when other things have had their turn. */
  readonly turn: () => Promise<void>;
  /** Output is sent when there is as much of it; default: 32 KiB. */
  readonly messageBytes?: number;
}

interface Bundle {
  readonly processor: BundleProcessor;
}

/** Bundles whose end is remembered, so that late data for them is dropped. */
const MAX_ENDED = 10_000;
/** Bundles that may wait to be finalized. */
const MAX_FINALIZERS = 100_000;

type Part = { readonly data: Elements_Data } | { readonly timers: Elements_Timers };

export class SdkHarness {
  readonly #init: SdkHarnessInit;
  readonly #plans = new Map<string, DescriptorPlan>();
  readonly #bundles = new Map<string, Bundle>();
  /** Elements that have overtaken their instruction. */
  readonly #early = new Map<string, Part[]>();
  readonly #ended = new Set<string>();
  readonly #finalizers = new Map<string, readonly (() => void)[]>();
  readonly #cache = new StateCache();
  readonly #client: StateClient;
  #closed = false;

  constructor(init: SdkHarnessInit) {
    this.#init = init;
    this.#client = new StateClient((request) => {
      if (!this.#closed) init.runner.state(request);
    });
  }

  /** Reads of user state that the cache has answered. */
  get cacheHits(): number {
    return this.#cache.hits;
  }

  onInstruction({ instructionId, request }: InstructionRequest): void {
    if (this.#closed) return;
    switch (request?.$case) {
      case "processBundle":
        void this.#processBundle(instructionId, request.value);
        break;
      case "processBundleSplit": {
        const bundle = this.#bundles.get(request.value.instructionId);
        const value = bundle?.processor.split(request.value) ?? {
          primaryRoots: [],
          residualRoots: [],
          channelSplits: [],
        };
        this.#respond(instructionId, { $case: "processBundleSplit", value });
        break;
      }
      case "finalizeBundle":
        this.#finalize(instructionId, request.value.instructionId);
        break;
      case "processBundleProgress":
        this.#respond(instructionId, {
          $case: "processBundleProgress",
          value: { monitoringInfos: [], monitoringData: {}, consumingReceivedData: undefined },
        });
        break;
      case "monitoringInfos":
      case "harnessMonitoringInfos":
      case "sampleData":
      case "register":
      case undefined:
        this.#respond(
          instructionId,
          undefined,
          `The TypeScript harness does not answer ${request?.$case ?? "nothing"}.`,
        );
        break;
    }
  }

  onElements({ data, timers }: Elements): void {
    if (this.#closed) return;
    for (const part of data) this.#onPart(part.instructionId, { data: part });
    for (const part of timers) this.#onPart(part.instructionId, { timers: part });
  }

  onStateResponse(response: StateResponse): void {
    if (!this.#closed) this.#client.onResponse(response);
  }

  #onPart(instructionId: string, part: Part): void {
    if (this.#ended.has(instructionId)) return;
    const bundle = this.#bundles.get(instructionId);
    if (bundle === undefined) this.#early.set(instructionId, [...(this.#early.get(instructionId) ?? []), part]);
    else if ("data" in part) bundle.processor.onData(part.data);
    else bundle.processor.onTimers(part.timers);
  }

  async #processBundle(instructionId: string, request: ProcessBundleRequest): Promise<void> {
    const { runner, functions, nowMs, turn, messageBytes } = this.#init;
    try {
      const processor = new BundleProcessor({
        instructionId,
        plan: this.#plan(request.processBundleDescriptorId),
        functions,
        client: this.#client,
        cache: this.#cache,
        cacheTokens: request.cacheTokens,
        sendData: (part) => this.#send(() => runner.elements({ data: [part], timers: [] })),
        sendTimers: (part) => this.#send(() => runner.elements({ data: [], timers: [part] })),
        nowMs,
        turn,
        messageBytes,
      });
      this.#bundles.set(instructionId, { processor });
      if (request.elements !== undefined) this.onElements(request.elements);
      for (const part of this.#early.get(instructionId) ?? []) this.#onPart(instructionId, part);
      this.#early.delete(instructionId);
      const value = await processor.run();
      if (processor.finalizers.length > 0 && this.#finalizers.size < MAX_FINALIZERS)
        this.#finalizers.set(instructionId, processor.finalizers);
      this.#end(instructionId);
      this.#respond(instructionId, { $case: "processBundle", value });
    } catch (failure) {
      this.#bundles.get(instructionId)?.processor.failed();
      this.#end(instructionId);
      this.#respond(instructionId, undefined, failure instanceof Error ? failure.message : String(failure));
    }
  }

  #end(instructionId: string): void {
    this.#bundles.delete(instructionId);
    this.#early.delete(instructionId);
    this.#ended.add(instructionId);
    if (this.#ended.size > MAX_ENDED) for (const oldest of this.#ended) return void this.#ended.delete(oldest);
  }

  #finalize(instructionId: string, bundleId: string): void {
    const callbacks = this.#finalizers.get(bundleId) ?? [];
    this.#finalizers.delete(bundleId);
    try {
      for (const callback of callbacks) callback();
      this.#respond(instructionId, { $case: "finalizeBundle", value: {} });
    } catch (failure) {
      this.#respond(instructionId, undefined, String(failure));
    }
  }

  #plan(descriptorId: string): DescriptorPlan {
    let plan = this.#plans.get(descriptorId);
    if (plan === undefined) {
      const descriptor = this.#init.runner.descriptor(descriptorId);
      if (descriptor === undefined) throw new Error(`The runner has no descriptor "${descriptorId}".`);
      plan = new DescriptorPlan(descriptor);
      this.#plans.set(descriptorId, plan);
    }
    return plan;
  }

  #respond(instructionId: string, response: InstructionResponse["response"], error = ""): void {
    this.#send(() => this.#init.runner.respond({ instructionId, error, response }));
  }

  #send(send: () => void): void {
    if (!this.#closed) send();
  }

  /** It is gone: nothing is sent or taken any more. What user code runs goes on into the void. Idempotent. */
  close(): void {
    this.#closed = true;
  }
}
