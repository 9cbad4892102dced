/**
 * ProcessBundleDescriptors: what a harness is told about a stage. Only what the stage needs is in it: its transforms
 * under the pipeline's own ids (metrics, side inputs and errors name them), a source and a sink per PCollection that
 * crosses, and their coders, windowings and environments.
 *
 * Invariants: a PCollection that crosses has its wire coder both in its port and as its own coder, and windowings name
 * the wire's window coder, so that elements, timers, residuals and state keys spell keys and windows with one set of
 * bytes. Maps are filled in order of their keys, so that equal plans are equal bytes. Ports have no endpoint.
 */
import { ProcessBundleDescriptor, RemoteGrpcPort } from "../../proto/gen/beam_fn_api.ts";
import {
  CombinePayload,
  ParDoPayload,
  type PCollection,
  type PTransform,
  type StateSpec,
} from "../../proto/gen/beam_runner_api.ts";
import { userError } from "../base/errors.ts";
import { isStateful } from "./fuse-stages.ts";
import { nameTransform, pcollectionOf, type Plan, type PlanNode, sortedEntries, windowingOf } from "./plan-node.ts";
import { CODER_URN, COMBINE_URNS, URN } from "./urns.ts";
import type { WireCoders } from "./wire-coders.ts";

export interface DescriptorRequest {
  readonly id: string;
  readonly nodes: readonly PlanNode[];
  readonly inputId: string;
  /** Element coder of the input as it crosses. */
  readonly inputElementCoderId: string;
  /** Element coder of the input's PCollection, where it is another than at its port. */
  readonly inputPCollectionCoderId?: string;
  /** PCollections that leave. */
  readonly outputIds: readonly string[];
}

export interface BuiltDescriptor {
  readonly bytes: Uint8Array;
  readonly sourceTransformId: string;
  /** windowed_value coder of the source's port. */
  readonly inputCoderId: string;
  readonly sinks: readonly { readonly transformId: string; readonly pcollectionId: string; readonly coderId: string }[];
}

/** Encoded descriptor of a stage. */
export function buildDescriptor(plan: Plan, coders: WireCoders, request: DescriptorRequest): BuiltDescriptor {
  const crossing = new Map<string, string>([[request.inputId, request.inputElementCoderId]]);
  const used = new Set<string>([request.inputId]);
  for (const node of request.nodes) {
    for (const side of node.sideInputs) cross(side.pcollectionId);
    for (const id of [...node.mainInputs, ...node.outputs]) used.add(id);
  }
  for (const id of request.outputIds) cross(id);
  function cross(id: string): void {
    used.add(id);
    if (!crossing.has(id)) crossing.set(id, coders.wire(pcollectionOf(plan, id).coderId));
  }

  const transforms = new Map<string, PTransform>();
  const coderIds = new Set<string>();
  const environmentIds = new Set<string>();
  const aliases = new Map<string, string>();
  for (const node of request.nodes) {
    const proto = describeNode(plan, coders, node, coderIds);
    // Python tells a ParDo's side inputs from its main input, but not those of an SDF's parts: were such a side input
    // also produced or read here, its elements would be processed too. Under a name of their own they are not.
    if (proto.spec?.urn !== URN.parDo) {
      for (const side of node.sideInputs) {
        const alias = `side:${side.pcollectionId}`;
        aliases.set(alias, side.pcollectionId);
        proto.inputs[side.localName] = alias;
      }
    }
    transforms.set(node.id, proto);
    if (proto.environmentId !== "") environmentIds.add(proto.environmentId);
  }
  const port = (pcollectionId: string): { payload: Uint8Array; coderId: string } => {
    const windowing = windowingOf(plan, pcollectionOf(plan, pcollectionId).windowingStrategyId);
    const coderId = coders.windowed(crossing.get(pcollectionId) ?? "", coders.wireWindow(windowing.windowCoderId));
    coderIds.add(coderId);
    return { payload: RemoteGrpcPort.encode({ apiServiceDescriptor: undefined, coderId }).finish(), coderId };
  };
  const source = port(request.inputId);
  const sourceTransformId = `source:${request.inputId}`;
  transforms.set(
    sourceTransformId,
    portTransform(sourceTransformId, URN.source, source.payload, {}, { out: request.inputId }),
  );
  const sinks = request.outputIds.map((pcollectionId) => {
    const transformId = `sink:${pcollectionId}`;
    const { payload, coderId } = port(pcollectionId);
    transforms.set(transformId, portTransform(transformId, URN.sink, payload, { in: pcollectionId }, {}));
    return { transformId, pcollectionId, coderId };
  });

  const windowingIds = new Set<string>();
  const pcollections = [...used, ...aliases.keys()].sort().map((id): [string, PCollection] => {
    const planId = aliases.get(id) ?? id;
    const pcollection = pcollectionOf(plan, planId);
    const declared = planId === request.inputId ? request.inputPCollectionCoderId : undefined;
    const coderId = declared ?? crossing.get(planId) ?? pcollection.coderId;
    coderIds.add(coderId);
    windowingIds.add(pcollection.windowingStrategyId);
    return [id, { ...pcollection, coderId, displayData: [] }];
  });
  const windowings = [...windowingIds].sort().map((id) => {
    const windowing = windowingOf(plan, id);
    const windowCoderId = coders.wireWindow(windowing.windowCoderId);
    coderIds.add(windowCoderId);
    if (windowing.environmentId !== "") environmentIds.add(windowing.environmentId);
    return [id, { ...windowing, windowCoderId }] as const;
  });
  const bytes = ProcessBundleDescriptor.encode({
    id: request.id,
    transforms: Object.fromEntries(sortedEntries(Object.fromEntries(transforms))),
    pcollections: Object.fromEntries(pcollections),
    windowingStrategies: Object.fromEntries(windowings),
    coders: Object.fromEntries(coders.closure(coderIds).map((id) => [id, coders.get(id)])),
    environments: Object.fromEntries(
      [...environmentIds].sort().flatMap((id) => {
        const environment = plan.environments.get(id);
        return environment === undefined ? [] : [[id, { ...environment, displayData: [] }]];
      }),
    ),
    stateApiServiceDescriptor: undefined,
    timerApiServiceDescriptor: undefined,
  }).finish();
  return { bytes, sourceTransformId, inputCoderId: source.coderId, sinks };
}

/** The coder of a stateful ParDo's timers as they cross. @throws WeirError when its input has no key. */
export function timerCoderId(plan: Plan, coders: WireCoders, node: PlanNode): string {
  const input = pcollectionOf(plan, node.mainInputs[0] ?? "");
  const coder = coders.get(coders.wire(input.coderId));
  const [keyId] = coder.componentCoderIds;
  if (coder.spec?.urn !== CODER_URN.kv || keyId === undefined) {
    throw userError(
      "INVALID_ARGUMENT",
      `The input of ${nameTransform(node.proto)}, which uses state or timers, is not KV.`,
    );
  }
  return coders.timer(keyId, coders.wireWindow(windowingOf(plan, input.windowingStrategyId).windowCoderId));
}

/** The transform as the harness sees it; coders that its payload names are added to `coderIds`. */
function describeNode(plan: Plan, coders: WireCoders, node: PlanNode, coderIds: Set<string>): PTransform {
  const proto: PTransform = { ...node.proto, displayData: [], subtransforms: [], inputs: { ...node.proto.inputs } };
  const spec = proto.spec;
  if (spec !== undefined && COMBINE_URNS.has(spec.urn)) {
    coderIds.add(CombinePayload.decode(spec.payload).accumulatorCoderId);
  }
  const { parDo } = node;
  if (spec === undefined || parDo === undefined) return proto;
  if (parDo.restrictionCoderId !== "") coderIds.add(parDo.restrictionCoderId);
  for (const [, state] of sortedEntries(parDo.stateSpecs)) for (const id of stateCoderIds(state)) coderIds.add(id);
  if (!isStateful(node) || Object.keys(parDo.timerFamilySpecs).length === 0) return proto;
  const timerFamilyCoderId = timerCoderId(plan, coders, node);
  coderIds.add(timerFamilyCoderId);
  const timerFamilySpecs = Object.fromEntries(
    sortedEntries(parDo.timerFamilySpecs).map(([name, timer]) => [name, { ...timer, timerFamilyCoderId }]),
  );
  return { ...proto, spec: { urn: spec.urn, payload: ParDoPayload.encode({ ...parDo, timerFamilySpecs }).finish() } };
}

function stateCoderIds(state: StateSpec): string[] {
  const { spec } = state;
  switch (spec?.$case) {
    case "readModifyWriteSpec":
      return [spec.value.coderId];
    case "bagSpec":
    case "setSpec":
    case "orderedListSpec":
      return [spec.value.elementCoderId];
    case "combiningSpec":
      return [spec.value.accumulatorCoderId];
    case "mapSpec":
    case "multimapSpec":
      return [spec.value.keyCoderId, spec.value.valueCoderId];
    case undefined:
      return [];
  }
}

/** A source or sink between harness and runner. */
export function portTransform(
  uniqueName: string,
  urn: string,
  payload: Uint8Array,
  inputs: Record<string, string>,
  outputs: Record<string, string>,
): PTransform {
  return {
    uniqueName,
    spec: { urn, payload },
    subtransforms: [],
    inputs,
    outputs,
    displayData: [],
    environmentId: "",
    annotations: {},
  };
}
