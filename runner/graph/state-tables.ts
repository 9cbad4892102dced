/**
 * What a plan's tasks keep as keyed rows, and by which coders: user states, timers, groupings. It goes into every
 * checkpoint's manifest, so that a snapshot can be read without the pipeline.
 *
 * Invariant: only coders that the runner walks keep their components, and only rows their payload (a schema): what an
 * SDK pickled is of no use to a reader, and may be large.
 */
import { ProcessBundleDescriptor } from "../../proto/gen/beam_fn_api.ts";
import { type Coder, ParDoPayload, type StateSpec } from "../../proto/gen/beam_runner_api.ts";
import type { CoderTable, ExecutableStageSpec, ExecutionGraph, VertexSpec } from "./execution-graph.ts";
import { triggerText } from "./trigger-text.ts";
import { CODER_URN, FIXED_WINDOWS_URN, SESSION_WINDOWS_URN, SLIDING_WINDOWS_URN } from "./urns.ts";

export interface StateTableSpec {
  readonly vertexId: string;
  /** As the snapshot's rows name it. */
  readonly table: string;
  /** User states, as their specs call them; timers; a grouping. */
  readonly kind: "value" | "bag" | "combining" | "map" | "set" | "ordered-list" | "multimap" | "timers" | "grouping";
  readonly transformId: string;
  /** For people. */
  readonly transform: string;
  /** Of a user state or a timer family; empty for a grouping. */
  readonly stateId: string;
  /** Empty where it is not known, as are the others. */
  readonly keyCoderId: string;
  readonly windowCoderId: string;
  /** Of one element: of a map, of one value. Empty for timers. */
  readonly valueCoderId: string;
  /** Of a map's or set's keys; else empty. */
  readonly mapKeyCoderId: string;
  /** Of the transform's main input. */
  readonly windowing?: WindowingFacts;
  /** Of a timer family. */
  readonly timeDomain?: "EVENT_TIME" | "PROCESSING_TIME";
}

/** What of a windowing strategy what is kept by window depends on. */
export interface WindowingFacts {
  /** URN; of Beam's own functions with their parameters in base64: "URN?PARAMETERS". What an SDK pickled is left out. */
  readonly windowFn: string;
  /** Base64 of the Trigger. Of groupings only, as is the accumulation mode: what is empty counts for nothing. */
  readonly trigger: string;
  readonly accumulationMode: string;
  readonly allowedLatenessMs: number;
  /** These of groupings only. */
  readonly merging?: boolean;
  /** The trigger for people. */
  readonly triggerText?: string;
  readonly timestampCombiner?: string;
  readonly closingBehavior?: string;
  readonly onTimeBehavior?: string;
}

export interface StateTables {
  readonly tables: readonly StateTableSpec[];
  /** Those that the tables name, and their components. */
  readonly coders: Readonly<Record<string, StateCoder>>;
}

export interface StateCoder {
  readonly urn: string;
  readonly components: readonly string[];
  /** Base64; of beam:coder:row:v1 only. */
  readonly payload?: string;
}

type KindAndCoders = Pick<StateTableSpec, "kind" | "valueCoderId" | "mapKeyCoderId">;

const HAS_READABLE_PARAMETERS: ReadonlySet<string> = new Set([
  FIXED_WINDOWS_URN,
  SLIDING_WINDOWS_URN,
  SESSION_WINDOWS_URN,
]);
const ROW_URN = "beam:coder:row:v1";
const OPAQUE: KindAndCoders = { kind: "bag", valueCoderId: "", mapKeyCoderId: "" };

export function describeStateTables(graph: ExecutionGraph): StateTables {
  const coders: Record<string, StateCoder> = {};
  const tables = graph.vertices.flatMap((vertex) => [
    ...groupingOf(graph, vertex, coders),
    ...(vertex.stage === undefined ? [] : statesAndTimersOf(graph, vertex, vertex.stage, coders)),
  ]);
  return { tables, coders };
}

function windowingOf(graph: ExecutionGraph, windowingId: string, fires: boolean): { windowing?: WindowingFacts } {
  const spec = graph.windowings[windowingId];
  if (spec === undefined) return {};
  const { windowFnUrn, windowFnPayload, allowedLatenessMs } = spec;
  const parameters = HAS_READABLE_PARAMETERS.has(windowFnUrn) ? Buffer.from(windowFnPayload).toString("base64") : "";
  const windowFn = parameters === "" ? windowFnUrn : `${windowFnUrn}?${parameters}`;
  if (!fires) return { windowing: { windowFn, trigger: "", accumulationMode: "", allowedLatenessMs } };
  const { trigger, accumulationMode, merging, timestampCombiner, closingBehavior, onTimeBehavior } = spec;
  return {
    windowing: {
      windowFn,
      trigger: Buffer.from(trigger).toString("base64"),
      accumulationMode,
      allowedLatenessMs,
      merging,
      triggerText: triggerText(trigger),
      timestampCombiner,
      closingBehavior,
      onTimeBehavior,
    },
  };
}

function groupingOf(
  graph: ExecutionGraph,
  { id, name, head, inputs }: VertexSpec,
  coders: Record<string, StateCoder>,
): StateTableSpec[] {
  if (head.kind !== "group-by-key") return [];
  const dataset = inputs[0] === undefined ? undefined : graph.datasets[inputs[0]];
  const kv = graph.coders[graph.coders[dataset?.coderId ?? ""]?.components[0] ?? ""];
  const [keyCoderId = "", valueCoderId = ""] = kv?.components ?? [];
  const windowCoderId = graph.windowings[head.windowingId]?.windowCoderId ?? "";
  for (const coderId of [keyCoderId, valueCoderId, windowCoderId]) copyCoder(graph.coders, coderId, coders);
  const coderIds = { keyCoderId, windowCoderId, valueCoderId, mapKeyCoderId: "" };
  const windowing = windowingOf(graph, head.windowingId, true);
  return [
    {
      vertexId: id,
      table: "grouping",
      kind: "grouping",
      transformId: "",
      transform: name,
      stateId: "",
      ...coderIds,
      ...windowing,
    },
  ];
}

function statesAndTimersOf(
  graph: ExecutionGraph,
  { id: vertexId }: VertexSpec,
  stage: ExecutableStageSpec,
  coders: Record<string, StateCoder>,
): StateTableSpec[] {
  if (stage.userStates.length === 0 && stage.timers.length === 0) return [];
  const nameOf = new Map(stage.transforms.map(({ id, uniqueName }) => [id, uniqueName]));
  const descriptor = ProcessBundleDescriptor.decode(stage.descriptor);
  const wire = coderTable(descriptor.coders);
  const states = stage.userStates.map(({ transformId, localName, windowingId }): StateTableSpec => {
    const transform = descriptor.transforms[transformId];
    const parDo = ParDoPayload.decode(transform?.spec?.payload ?? new Uint8Array());
    const mainInput = Object.entries(transform?.inputs ?? {}).find(([name]) => parDo.sideInputs[name] === undefined);
    const kv = wire[descriptor.pcollections[mainInput?.[1] ?? ""]?.coderId ?? ""];
    const keyCoderId = kv?.urn === CODER_URN.kv ? (kv.components[0] ?? "") : "";
    const windowCoderId = graph.windowings[windowingId]?.windowCoderId ?? "";
    const kind = kindOf(parDo.stateSpecs[localName]);
    for (const coderId of [keyCoderId, kind.valueCoderId, kind.mapKeyCoderId]) copyCoder(wire, coderId, coders);
    copyCoder(graph.coders, windowCoderId, coders);
    return {
      vertexId,
      table: `user-state/${transformId}/${localName}`,
      transformId,
      transform: nameOf.get(transformId) ?? transformId,
      stateId: localName,
      keyCoderId,
      windowCoderId,
      ...kind,
      ...windowingOf(graph, windowingId, false),
    };
  });
  const timers = stage.timers.map(
    ({ transformId, timerFamilyId, coderId, windowingId, timeDomain }): StateTableSpec => {
      const [keyCoderId = "", windowCoderId = ""] = graph.coders[coderId]?.components ?? [];
      for (const component of [keyCoderId, windowCoderId]) copyCoder(graph.coders, component, coders);
      return {
        vertexId,
        table: "timers",
        kind: "timers",
        transformId,
        transform: nameOf.get(transformId) ?? transformId,
        stateId: timerFamilyId,
        keyCoderId,
        windowCoderId,
        valueCoderId: "",
        mapKeyCoderId: "",
        timeDomain,
        ...windowingOf(graph, windowingId, false),
      };
    },
  );
  return [...states, ...timers];
}

function kindOf(state: StateSpec | undefined): KindAndCoders {
  const spec = state?.spec;
  switch (spec?.$case) {
    case "readModifyWriteSpec":
      return { kind: "value", valueCoderId: spec.value.coderId, mapKeyCoderId: "" };
    case "bagSpec":
      return { kind: "bag", valueCoderId: spec.value.elementCoderId, mapKeyCoderId: "" };
    case "combiningSpec":
      return { kind: "combining", valueCoderId: spec.value.accumulatorCoderId, mapKeyCoderId: "" };
    case "orderedListSpec":
      return { kind: "ordered-list", valueCoderId: spec.value.elementCoderId, mapKeyCoderId: "" };
    case "mapSpec":
      return { kind: "map", valueCoderId: spec.value.valueCoderId, mapKeyCoderId: spec.value.keyCoderId };
    case "multimapSpec":
      return { kind: "multimap", valueCoderId: spec.value.valueCoderId, mapKeyCoderId: spec.value.keyCoderId };
    case "setSpec":
      // In a bag (Python) or as keys of a multimap (Java).
      return { kind: "set", valueCoderId: spec.value.elementCoderId, mapKeyCoderId: spec.value.elementCoderId };
    default:
      return OPAQUE;
  }
}

function coderTable(coders: Readonly<Record<string, Coder>>): CoderTable {
  return Object.fromEntries(
    Object.entries(coders).map(([id, { spec, componentCoderIds }]) => [
      id,
      { urn: spec?.urn ?? "", payload: spec?.payload ?? new Uint8Array(), components: componentCoderIds },
    ]),
  );
}

function copyCoder(from: CoderTable, coderId: string, into: Record<string, StateCoder>): void {
  const coder = from[coderId];
  if (coder === undefined || into[coderId] !== undefined) return;
  const isRow = coder.urn === ROW_URN;
  const isStandard = coder.urn.startsWith("beam:coder:");
  const components = isStandard ? coder.components : [];
  const payload = isRow ? { payload: Buffer.from(coder.payload).toString("base64") } : {};
  into[coderId] = { urn: coder.urn, components, ...payload };
  for (const component of components) copyCoder(from, component, into);
}
