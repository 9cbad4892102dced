/**
 * Builds pipeline protos whose user code is registered TypeScript functions (sdk-harness/user-functions.ts), for tests
 * that run pipelines without another SDK: Impulse, ParDo with state and timers, splittable DoFns, GroupByKey, Flatten,
 * side inputs, windows.
 */
import {
  AccumulationMode_Enum,
  ClosingBehavior_Enum,
  type Coder,
  type Components,
  Environment,
  IsBounded_Enum,
  MergeStatus_Enum,
  OnTimeBehavior_Enum,
  OutputTime_Enum,
  ParDoPayload,
  PCollection,
  type Pipeline,
  PTransform,
  type StateSpec,
  TimeDomain_Enum,
  WindowingStrategy,
} from "../../proto/gen/beam_runner_api.ts";
import { FixedWindowsPayload, SessionWindowsPayload } from "../../proto/gen/standard_window_fns.ts";
import { COMBINE_FN_URN, DO_FN_URN, functionReference } from "../../sdk-harness/user-functions.ts";

export type ElementType =
  | "bytes"
  | "string"
  | "varint"
  | "double"
  | "bool"
  | { readonly kv: readonly [ElementType, ElementType] }
  | { readonly iterable: ElementType };

export type Windowing =
  | "global"
  | { readonly fixedMs: number; readonly allowedLatenessMs?: number }
  | { readonly sessionGapMs: number; readonly allowedLatenessMs?: number };

export interface Collection {
  readonly id: string;
  readonly type: ElementType;
  readonly windowing: Windowing;
  readonly bounded: boolean;
}

export type StateDeclaration =
  | { readonly value: ElementType }
  | { readonly bag: ElementType }
  | { readonly combining: string; readonly accumulator: ElementType };

export interface FunctionUse {
  /** As registered. */
  readonly function: string;
  readonly argument?: unknown;
}

export interface ParDoUse extends FunctionUse {
  /** Of its output, "out", where it has one only. */
  readonly output?: ElementType;
  /** By tag. */
  readonly outputs?: Readonly<Record<string, ElementType>>;
  readonly windowing?: Windowing;
  readonly bounded?: boolean;
  readonly iterableSideInputs?: Readonly<Record<string, Collection>>;
  readonly multimapSideInputs?: Readonly<Record<string, Collection>>;
  readonly states?: Readonly<Record<string, StateDeclaration>>;
  readonly timers?: Readonly<Record<string, "event" | "processing">>;
  readonly finalization?: boolean;
  readonly stableInput?: boolean;
}

const LEAF_URNS = {
  bytes: "beam:coder:bytes:v1",
  string: "beam:coder:string_utf8:v1",
  varint: "beam:coder:varint:v1",
  double: "beam:coder:double:v1",
  bool: "beam:coder:bool:v1",
} as const;

const NO_PAYLOAD = new Uint8Array();
const ENVIRONMENT = "env";
/** [[start, stop], watermark] */
const RESTRICTION: ElementType = { kv: [{ kv: ["varint", "varint"] }, "varint"] };

export class TestPipeline {
  readonly #components: Components = {
    transforms: {},
    pcollections: {},
    windowingStrategies: {},
    coders: {},
    environments: { [ENVIRONMENT]: Environment.fromPartial({ urn: "weir:env:in_process:v1" }) },
  };
  readonly #roots: string[] = [];

  get pipeline(): Pipeline {
    return { components: this.#components, rootTransformIds: this.#roots, displayData: [], requirements: [] };
  }

  impulse(name: string): Collection {
    const spec = { urn: "beam:transform:impulse:v1", payload: NO_PAYLOAD };
    return this.#transform(name, { spec }, {}, this.#outputs({ out: "bytes" }, "global", true)).out as Collection;
  }

  groupByKey(name: string, input: Collection): Collection {
    if (typeof input.type === "string" || !("kv" in input.type)) throw new Error(`${input.id} is not keyed.`);
    const [key, value] = input.type.kv;
    const type: ElementType = { kv: [key, { iterable: value }] };
    const spec = { urn: "beam:transform:group_by_key:v1", payload: NO_PAYLOAD };
    const outputs = this.#outputs({ out: type }, input.windowing, input.bounded);
    return this.#transform(name, { spec }, { in: input }, outputs).out as Collection;
  }

  flatten(name: string, inputs: readonly Collection[]): Collection {
    const [first] = inputs;
    if (first === undefined) throw new Error("A Flatten needs an input.");
    const spec = { urn: "beam:transform:flatten:v1", payload: NO_PAYLOAD };
    const bounded = inputs.every((input) => input.bounded);
    const outputs = this.#outputs({ out: first.type }, first.windowing, bounded);
    const named = Object.fromEntries(inputs.map((input, index) => [`${index}`, input]));
    return this.#transform(name, { spec }, named, outputs).out as Collection;
  }

  /** A ParDo with one output. */
  parDo(name: string, input: Collection, use: ParDoUse): Collection {
    return this.parDoWithOutputs(name, input, { ...use, outputs: { out: use.output ?? input.type } }).out as Collection;
  }

  /** A ParDo; its outputs by tag. */
  parDoWithOutputs(name: string, input: Collection, use: ParDoUse): Readonly<Record<string, Collection>> {
    return this.#parDo(name, input, use, "");
  }

  /** A splittable DoFn with one output. */
  splittable(name: string, input: Collection, use: ParDoUse): Collection {
    const outputs = { out: use.output ?? input.type };
    return this.#parDo(name, input, { ...use, outputs }, this.#coder(RESTRICTION)).out as Collection;
  }

  #parDo(
    name: string,
    input: Collection,
    use: ParDoUse,
    restrictionCoderId: string,
  ): Readonly<Record<string, Collection>> {
    const { iterableSideInputs = {}, multimapSideInputs = {}, states = {}, timers = {} } = use;
    const side = (urn: string) => ({
      accessPattern: { urn, payload: NO_PAYLOAD },
      viewFn: undefined,
      windowMappingFn: undefined,
    });
    const payload: ParDoPayload = {
      ...ParDoPayload.fromPartial({}),
      doFn: { urn: DO_FN_URN, payload: functionReference(use.function, use.argument) },
      restrictionCoderId,
      requestsFinalization: use.finalization ?? false,
      requiresStableInput: use.stableInput ?? false,
      sideInputs: {
        ...mapValues(iterableSideInputs, () => side("beam:side_input:iterable:v1")),
        ...mapValues(multimapSideInputs, () => side("beam:side_input:multimap:v1")),
      },
      stateSpecs: mapValues(states, (state) => this.#state(state)),
      timerFamilySpecs: mapValues(timers, (domain) => ({
        timeDomain: domain === "event" ? TimeDomain_Enum.EVENT_TIME : TimeDomain_Enum.PROCESSING_TIME,
        timerFamilyCoderId: this.#timerCoder(input),
      })),
    };
    const spec = { urn: "beam:transform:pardo:v1", payload: ParDoPayload.encode(payload).finish() };
    const outputs = this.#outputs(use.outputs ?? {}, use.windowing ?? input.windowing, use.bounded ?? input.bounded);
    const inputs = { in: input, ...iterableSideInputs, ...multimapSideInputs };
    return this.#transform(name, { spec, environmentId: ENVIRONMENT }, inputs, outputs);
  }

  #state(state: StateDeclaration): StateSpec {
    const protocol = { urn: "beam:user_state:bag:v1", payload: NO_PAYLOAD };
    if ("value" in state)
      return { protocol, spec: { $case: "readModifyWriteSpec", value: { coderId: this.#coder(state.value) } } };
    if ("bag" in state)
      return { protocol, spec: { $case: "bagSpec", value: { elementCoderId: this.#coder(state.bag) } } };
    const combineFn = { urn: COMBINE_FN_URN, payload: functionReference(state.combining) };
    const accumulatorCoderId = this.#coder(state.accumulator);
    return { protocol, spec: { $case: "combiningSpec", value: { accumulatorCoderId, combineFn } } };
  }

  #timerCoder(input: Collection): string {
    if (typeof input.type === "string" || !("kv" in input.type)) throw new Error(`${input.id} is not keyed.`);
    const window = this.#coderOf(windowCoderUrn(input.windowing), []);
    return this.#coderOf("beam:coder:timer:v1", [this.#coder(input.type.kv[0]), window]);
  }

  #outputs(types: Readonly<Record<string, ElementType>>, windowing: Windowing, bounded: boolean) {
    return mapValues(types, (type) => ({ type, windowing, bounded }));
  }

  #transform(
    name: string,
    transform: Partial<PTransform>,
    inputs: Readonly<Record<string, Collection>>,
    outputs: Readonly<Record<string, Omit<Collection, "id">>>,
  ): Readonly<Record<string, Collection>> {
    const collections = Object.fromEntries(
      Object.entries(outputs).map(([tag, output]): [string, Collection] => [tag, { id: `${name}.${tag}`, ...output }]),
    );
    for (const { id, type, windowing, bounded } of Object.values(collections))
      this.#components.pcollections[id] = PCollection.fromPartial({
        uniqueName: id,
        coderId: this.#coder(type),
        isBounded: bounded ? IsBounded_Enum.BOUNDED : IsBounded_Enum.UNBOUNDED,
        windowingStrategyId: this.#windowing(windowing),
      });
    this.#components.transforms[name] = {
      ...PTransform.fromPartial({}),
      uniqueName: name,
      ...transform,
      inputs: mapValues(inputs, ({ id }) => id),
      outputs: mapValues(collections, ({ id }) => id),
    };
    this.#roots.push(name);
    return collections;
  }

  #windowing(windowing: Windowing): string {
    const id = `windowing ${JSON.stringify(windowing)}`;
    this.#components.windowingStrategies[id] ??= WindowingStrategy.fromPartial({
      windowFn: windowFn(windowing),
      mergeStatus:
        windowing !== "global" && "sessionGapMs" in windowing
          ? MergeStatus_Enum.NEEDS_MERGE
          : MergeStatus_Enum.NON_MERGING,
      windowCoderId: this.#coderOf(windowCoderUrn(windowing), []),
      trigger: { trigger: { $case: "default", value: {} } },
      accumulationMode: AccumulationMode_Enum.DISCARDING,
      outputTime: OutputTime_Enum.END_OF_WINDOW,
      closingBehavior: ClosingBehavior_Enum.EMIT_IF_NONEMPTY,
      allowedLateness: BigInt(windowing === "global" ? 0 : (windowing.allowedLatenessMs ?? 0)),
      onTimeBehavior: OnTimeBehavior_Enum.FIRE_ALWAYS,
      assignsToOneWindow: true,
      environmentId: ENVIRONMENT,
    });
    return id;
  }

  #coder(type: ElementType): string {
    if (typeof type === "string") return this.#coderOf(LEAF_URNS[type], []);
    if ("kv" in type) return this.#coderOf("beam:coder:kv:v1", [this.#coder(type.kv[0]), this.#coder(type.kv[1])]);
    return this.#coderOf("beam:coder:iterable:v1", [this.#coder(type.iterable)]);
  }

  #coderOf(urn: string, componentCoderIds: string[]): string {
    const short = urn.split(":")[2] ?? urn;
    const id = componentCoderIds.length === 0 ? short : `${short}<${componentCoderIds.join(",")}>`;
    const coder: Coder = { spec: { urn, payload: NO_PAYLOAD }, componentCoderIds };
    this.#components.coders[id] = coder;
    return id;
  }
}

function windowCoderUrn(windowing: Windowing): string {
  return windowing === "global" ? "beam:coder:global_window:v1" : "beam:coder:interval_window:v1";
}

function windowFn(windowing: Windowing): { urn: string; payload: Uint8Array } {
  if (windowing === "global") return { urn: "beam:window_fn:global_windows:v1", payload: NO_PAYLOAD };
  if ("fixedMs" in windowing)
    return {
      urn: "beam:window_fn:fixed_windows:v1",
      payload: FixedWindowsPayload.encode({ size: durationOf(windowing.fixedMs), offset: undefined }).finish(),
    };
  return {
    urn: "beam:window_fn:session_windows:v1",
    payload: SessionWindowsPayload.encode({ gapSize: durationOf(windowing.sessionGapMs) }).finish(),
  };
}

function durationOf(ms: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
}

function mapValues<From, To>(record: Readonly<Record<string, From>>, map: (value: From) => To): Record<string, To> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}
