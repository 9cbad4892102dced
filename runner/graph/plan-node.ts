/**
 * The pipeline while it is being planned: its leaf transforms as nodes, and a private copy of its components that
 * rewrites may change and extend. Nothing of it leaves runner/graph.
 *
 * Invariants: a node's `proto` belongs to the plan and has no subtransforms; every PCollection has one producer.
 */
import {
  type Coder,
  type Components,
  type Environment,
  type FunctionSpec,
  ParDoPayload,
  type PCollection,
  type PTransform,
  type WindowingStrategy,
} from "../../proto/gen/beam_runner_api.ts";
import { userError } from "../base/errors.ts";
import { PAR_DO_URNS, REDISTRIBUTE_URNS, URN } from "./urns.ts";

export type NodeKind = "impulse" | "test-stream" | "group-by-key" | "flatten" | "redistribute" | "sdk";

export interface NodeSideInput {
  readonly localName: string;
  readonly pcollectionId: string;
  readonly accessPatternUrn: string;
  readonly windowMapping: FunctionSpec | undefined;
}

/** A leaf transform. */
export interface PlanNode {
  readonly id: string;
  readonly kind: NodeKind;
  readonly proto: PTransform;
  /** Canonical id: two environments that differ only by resource hints have one. Empty where the runner runs it. */
  readonly environmentId: string;
  /** Inputs without side inputs, by local name. */
  readonly mainInputs: readonly string[];
  readonly outputs: readonly string[];
  readonly sideInputs: readonly NodeSideInput[];
  /** Decoded payload, where it is a ParDoPayload. */
  readonly parDo: ParDoPayload | undefined;
}

/** The working copy of a pipeline. */
export interface Plan {
  nodes: PlanNode[];
  readonly pcollections: Map<string, PCollection>;
  readonly coders: Map<string, Coder>;
  readonly windowings: Map<string, WindowingStrategy>;
  readonly environments: Map<string, Environment>;
  /** Environment id → the id that stands for all environments equal to it but for resource hints. */
  readonly canonicalEnvironments: ReadonlyMap<string, string>;
}

/** "transform 'A/B' (beam:transform:pardo:v1)", as messages name a transform. */
export function nameTransform(proto: PTransform): string {
  return `transform '${proto.uniqueName}' (${proto.spec?.urn || "no URN"})`;
}

function nodeKind(urn: string): NodeKind {
  if (urn === URN.impulse) return "impulse";
  if (urn === URN.testStream) return "test-stream";
  if (urn === URN.groupByKey) return "group-by-key";
  if (urn === URN.flatten) return "flatten";
  if (REDISTRIBUTE_URNS.has(urn)) return "redistribute";
  return "sdk";
}

/** A node for a transform. The proto's maps are copied, so that a rewrite may change them. */
export function makeNode(plan: Plan, id: string, source: PTransform, kind?: NodeKind): PlanNode {
  const urn = source.spec?.urn ?? "";
  const proto: PTransform = {
    ...source,
    subtransforms: [],
    inputs: { ...source.inputs },
    outputs: { ...source.outputs },
  };
  const parDo = PAR_DO_URNS.has(urn) ? decodeParDo(proto) : undefined;
  const sideInputNames = Object.keys(parDo?.sideInputs ?? {}).sort();
  const sideInputs = sideInputNames.map((localName) => {
    const pcollectionId = proto.inputs[localName];
    if (pcollectionId === undefined) {
      throw userError(
        "INVALID_ARGUMENT",
        `Side input '${localName}' of ${nameTransform(proto)} is not among its inputs.`,
      );
    }
    const side = parDo?.sideInputs[localName];
    return {
      localName,
      pcollectionId,
      accessPatternUrn: side?.accessPattern?.urn ?? "",
      windowMapping: side?.windowMappingFn,
    };
  });
  const isSideInput = new Set(sideInputNames);
  const actualKind = kind ?? nodeKind(urn);
  return {
    id,
    kind: actualKind,
    proto,
    environmentId: actualKind === "sdk" ? (plan.canonicalEnvironments.get(proto.environmentId) ?? "") : "",
    mainInputs: sortedEntries(proto.inputs).flatMap(([name, input]) => (isSideInput.has(name) ? [] : [input])),
    outputs: sortedEntries(proto.outputs).map(([, output]) => output),
    sideInputs,
    parDo,
  };
}

/** Entries by key: protobuf maps come in any order, and plans must not. */
export function sortedEntries<Value>(record: Readonly<Record<string, Value>>): [string, Value][] {
  return Object.entries(record).sort(([left], [right]) => (left < right ? -1 : left > right ? 1 : 0));
}

/** The first of `prefix`, `prefix_1`, `prefix_2`, … that is not taken. */
export function unusedId(taken: { has(id: string): boolean }, prefix: string): string {
  if (!taken.has(prefix)) return prefix;
  for (let count = 1; ; count++) {
    const id = `${prefix}_${count}`;
    if (!taken.has(id)) return id;
  }
}

/** An empty plan over a copy of the components' maps. */
export function planOver(components: Components): Plan {
  return {
    nodes: [],
    pcollections: new Map(sortedEntries(components.pcollections).map(([id, value]) => [id, { ...value }])),
    coders: new Map(sortedEntries(components.coders)),
    windowings: new Map(sortedEntries(components.windowingStrategies)),
    environments: new Map(sortedEntries(components.environments)),
    canonicalEnvironments: canonicalEnvironments(components),
  };
}

/** The producer of every PCollection. */
export function producers(nodes: readonly PlanNode[]): Map<string, PlanNode> {
  const result = new Map<string, PlanNode>();
  for (const node of nodes) for (const output of node.outputs) result.set(output, node);
  return result;
}

/** The environment of the nearest transform upstream that an SDK runs; empty where there is none. */
export function environmentOf(pcollectionId: string, producerOf: ReadonlyMap<string, PlanNode>): string {
  for (let id: string | undefined = pcollectionId; id !== undefined;) {
    const producer: PlanNode | undefined = producerOf.get(id);
    if (producer === undefined) return "";
    if (producer.kind === "sdk") return producer.proto.environmentId;
    id = producer.mainInputs[0];
  }
  return "";
}

/** @throws WeirError INVALID_ARGUMENT when the plan does not have it. */
export function pcollectionOf(plan: Plan, id: string): PCollection {
  const pcollection = plan.pcollections.get(id);
  if (pcollection === undefined) throw userError("INVALID_ARGUMENT", `PCollection '${id}' is not in the pipeline.`);
  return pcollection;
}

/** @throws WeirError INVALID_ARGUMENT when the plan does not have it. */
export function windowingOf(plan: Plan, id: string): WindowingStrategy {
  const windowing = plan.windowings.get(id);
  if (windowing === undefined)
    throw userError("INVALID_ARGUMENT", `Windowing strategy '${id}' is not in the pipeline.`);
  return windowing;
}

function decodeParDo(proto: PTransform): ParDoPayload {
  try {
    return ParDoPayload.decode(proto.spec?.payload ?? new Uint8Array());
  } catch {
    throw userError("INVALID_ARGUMENT", `The payload of ${nameTransform(proto)} is not a ParDoPayload.`);
  }
}

function canonicalEnvironments(components: Components): Map<string, string> {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  const idByContent = new Map<string, string>();
  const result = new Map<string, string>();
  for (const [id, environment] of sortedEntries(components.environments)) {
    const content = JSON.stringify([
      environment.urn,
      hex(environment.payload),
      environment.capabilities.toSorted(),
      environment.dependencies.map((artifact) => [
        artifact.typeUrn,
        hex(artifact.typePayload),
        artifact.roleUrn,
        hex(artifact.rolePayload),
      ]),
    ]);
    if (!idByContent.has(content)) idByContent.set(content, id);
    result.set(id, idByContent.get(content) ?? id);
  }
  return result;
}
