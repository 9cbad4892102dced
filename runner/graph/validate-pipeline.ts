/**
 * Refuses, before anything runs, a pipeline that Weir cannot run, with the name and URN of the transform that is the
 * reason. Only what the pipeline's transforms need is checked: clients leave unused components in their protos.
 */
import {
  AccumulationMode_Enum,
  type Components,
  type Pipeline,
  type PTransform,
} from "../../proto/gen/beam_runner_api.ts";
import { userError, type WeirError } from "../base/errors.ts";
import { isStateful } from "./fuse-stages.ts";
import { planLeafTransforms } from "./leaf-transforms.ts";
import { nameTransform, type Plan, type PlanNode } from "./plan-node.ts";
import { testStreamPayload } from "./rewrite/frame-test-streams.ts";
import { CODER_URN, RUNNER_URNS, SDK_TRANSFORM_URNS, SUPPORTED_REQUIREMENTS, URN } from "./urns.ts";

/** @throws WeirError INVALID_ARGUMENT, at the first thing that is wrong. */
export function validatePipeline(pipeline: Pipeline): void {
  for (const requirement of pipeline.requirements) {
    if (SUPPORTED_REQUIREMENTS.has(requirement)) continue;
    throw refuse(
      `The pipeline requires '${requirement}', which Weir does not support.`,
      `Supported are ${[...SUPPORTED_REQUIREMENTS].join(", ")}.`,
    );
  }
  const components = pipeline.components;
  if (components === undefined) throw refuse("The pipeline has no components.");
  // Walking down to the leaves finds dangling subtransforms, and sorting them finds cycles.
  const plan = planLeafTransforms(pipeline);
  const producerOf = new Map<string, PlanNode>();
  for (const node of plan.nodes) {
    checkTransform(node.proto, components);
    for (const output of node.outputs) {
      const other = producerOf.get(output);
      if (other !== undefined) {
        const both = `${nameTransform(other.proto)} and ${nameTransform(node.proto)}`;
        throw refuse(`PCollection '${output}' is produced by both ${both}.`);
      }
      producerOf.set(output, node);
    }
  }
  const coders = new CoderCheck(components);
  for (const node of plan.nodes) {
    for (const [localName, id] of Object.entries({ ...node.proto.outputs, ...node.proto.inputs })) {
      checkPCollection(node.proto, localName, id, components, coders);
    }
    for (const input of Object.values(node.proto.inputs)) {
      if (producerOf.has(input)) continue;
      throw refuse(`PCollection '${input}', an input of ${nameTransform(node.proto)}, is produced by no transform.`);
    }
    checkShape(node, plan);
    checkGrouping(node, plan);
    if (node.kind === "test-stream") checkTestStream(node, components, coders);
  }
}

function checkTransform(proto: PTransform, components: Components): void {
  const urn = proto.spec?.urn ?? "";
  const name = nameTransform(proto);
  const { environmentId } = proto;
  const environment = components.environments[environmentId];
  if (environmentId !== "" && environment === undefined) {
    throw refuse(`Environment '${environmentId}' of ${name} is not in the pipeline.`);
  }
  if (RUNNER_URNS.has(urn)) return;
  const isSdkTransform = SDK_TRANSFORM_URNS.has(urn) || (environment?.capabilities.includes(urn) ?? false);
  if (!isSdkTransform) {
    throw refuse(
      `Unknown primitive: ${name} has no subtransforms, and neither Weir nor its environment runs it.`,
      "It may need another runner, or an expansion service that expands it.",
    );
  }
  if (environment === undefined) throw refuse(`${name} has no environment to run it.`);
}

function checkPCollection(
  proto: PTransform,
  localName: string,
  id: string,
  components: Components,
  coders: CoderCheck,
): void {
  const pcollection = components.pcollections[id];
  const where = `${nameTransform(proto)}`;
  if (pcollection === undefined)
    throw refuse(`PCollection '${id}' ('${localName}' of ${where}) is not in the pipeline.`);
  const windowing = components.windowingStrategies[pcollection.windowingStrategyId];
  if (windowing === undefined) {
    throw refuse(
      `Windowing strategy '${pcollection.windowingStrategyId}' of PCollection '${id}' ('${localName}' of ${where}) ` +
        `is not in the pipeline.`,
    );
  }
  if (windowing.environmentId !== "" && components.environments[windowing.environmentId] === undefined) {
    throw refuse(`Environment '${windowing.environmentId}' of the windowing of ${where} is not in the pipeline.`);
  }
  coders.check(pcollection.coderId, `PCollection '${id}' ('${localName}' of ${where})`);
  coders.check(windowing.windowCoderId, `the windows of PCollection '${id}' ('${localName}' of ${where})`);
}

/** What a transform's input must look like, and how many there must be. */
function checkShape(node: PlanNode, plan: Plan): void {
  const name = nameTransform(node.proto);
  const expected = node.kind === "impulse" || node.kind === "test-stream" ? 0 : 1;
  if (node.kind !== "flatten" && node.mainInputs.length !== expected) {
    throw refuse(
      `${name} must have ${expected} main input${expected === 1 ? "" : "s"}, not ${node.mainInputs.length}.`,
    );
  }
  if (node.kind !== "sdk" && node.kind !== "test-stream" && node.outputs.length !== 1) {
    throw refuse(`${name} must have 1 output, not ${node.outputs.length}.`);
  }
  // GroupByKey and CombinePerKey are checked when they are rewritten: what they read may be declared with one coder and
  // written with another, see unify-coders.
  if (!isStateful(node)) return;
  const input = plan.pcollections.get(node.mainInputs[0] ?? "");
  const urn = plan.coders.get(input?.coderId ?? "")?.spec?.urn ?? "";
  if (urn !== CODER_URN.kv) {
    throw refuse(`The input of ${name} is not coded as KV but as ${urn || "a coder without URN"}.`);
  }
}

/** Grouping emits panes; which of them take back what earlier ones said, no SDK can read. */
function checkGrouping(node: PlanNode, plan: Plan): void {
  if (node.kind !== "group-by-key" && node.proto.spec?.urn !== URN.combinePerKey) return;
  const windowingId = plan.pcollections.get(node.mainInputs[0] ?? "")?.windowingStrategyId ?? "";
  if (plan.windowings.get(windowingId)?.accumulationMode !== AccumulationMode_Enum.RETRACTING) return;
  throw refuse(
    `The windowing '${windowingId}' of the input of ${nameTransform(node.proto)} retracts (accumulation mode RETRACTING), which Weir does not support.`,
    "Use ACCUMULATING or DISCARDING.",
  );
}

function checkTestStream(node: PlanNode, components: Components, coders: CoderCheck): void {
  const name = nameTransform(node.proto);
  const payload = testStreamPayload(node);
  coders.check(payload.coderId, `the elements of ${name}`);
  if (payload.events.length > 0 && (payload.endpoint?.url ?? "") !== "") {
    throw refuse(`${name} has both events and an endpoint to get them from.`);
  }
  if (node.outputs.length === 0) throw refuse(`${name} has no output.`);
  for (const output of node.outputs) {
    const { windowCoderId } =
      components.windowingStrategies[components.pcollections[output]?.windowingStrategyId ?? ""]!;
    if (components.coders[windowCoderId]?.spec?.urn === CODER_URN.globalWindow) continue;
    throw refuse(`PCollection '${output}', an output of ${name}, is not in global windows.`);
  }
}

/** Walks coders and remembers those that are whole. */
class CoderCheck {
  readonly #components: Components;
  readonly #whole = new Set<string>();

  constructor(components: Components) {
    this.#components = components;
  }

  check(id: string, owner: string): void {
    this.#walk(id, owner, []);
  }

  #walk(id: string, owner: string, path: readonly string[]): void {
    if (this.#whole.has(id)) return;
    const inside = path.length === 0 ? "" : ` (a component of coder '${path.at(-1)}')`;
    const coder = this.#components.coders[id];
    if (coder === undefined) throw refuse(`Coder '${id}'${inside} of ${owner} is not in the pipeline.`);
    if (path.length > DEEPEST_CODER)
      throw refuse(`Coder '${id}' of ${owner} is nested more than ${DEEPEST_CODER} deep.`);
    if (path.includes(id)) throw refuse(`Coder '${id}' of ${owner} is a component of itself.`);
    const needed = COMPONENT_COUNT[coder.spec?.urn ?? ""];
    if (needed !== undefined && coder.componentCoderIds.length !== needed) {
      throw refuse(
        `Coder '${id}' (${coder.spec?.urn}) of ${owner} must have ${needed} component coders, ` +
          `not ${coder.componentCoderIds.length}.`,
      );
    }
    for (const component of coder.componentCoderIds) this.#walk(component, owner, [...path, id]);
    this.#whole.add(id);
  }
}

const DEEPEST_CODER = 200;

const COMPONENT_COUNT: Readonly<Record<string, number>> = {
  [CODER_URN.kv]: 2,
  [CODER_URN.iterable]: 1,
  [CODER_URN.stateBackedIterable]: 1,
  [CODER_URN.lengthPrefix]: 1,
  [CODER_URN.windowedValue]: 2,
  [CODER_URN.paramWindowedValue]: 2,
  [CODER_URN.customWindow]: 1,
};

function refuse(message: string, hint?: string): WeirError {
  return userError("INVALID_ARGUMENT", message, hint);
}
