/**
 * Walks a pipeline's composites down to the transforms that are run, in the order of the proto, and sorts nodes by
 * dependency. A composite is expanded unless the runner or an SDK runs it as a whole.
 */
import type { Components, Pipeline, PTransform } from "../../proto/gen/beam_runner_api.ts";
import { userError } from "../base/errors.ts";
import { makeNode, nameTransform, type Plan, planOver, type PlanNode, producers } from "./plan-node.ts";
import { canLift } from "./rewrite/lift-combiners.ts";
import { REDISTRIBUTE_URNS, SDK_TRANSFORM_URNS, URN } from "./urns.ts";

/** A plan whose nodes are the pipeline's leaf transforms, sorted by dependency. @throws WeirError INVALID_ARGUMENT. */
export function planLeafTransforms(pipeline: Pipeline): Plan {
  const components = pipeline.components;
  if (components === undefined) throw userError("INVALID_ARGUMENT", "The pipeline has no components.");
  const plan = planOver(components);
  for (const id of leafTransformIds(components, pipeline.rootTransformIds)) {
    const proto = components.transforms[id];
    if (proto !== undefined) plan.nodes.push(makeNode(plan, id, proto));
  }
  plan.nodes = sortByDependency(plan.nodes);
  return plan;
}

/** Ids of the transforms below `roots` that are run, depth first. @throws on a dangling id or a composite in itself. */
function leafTransformIds(components: Components, roots: readonly string[]): string[] {
  const leaves: string[] = [];
  const seen = new Set<string>();
  // Explicit stack: composites may be nested deeper than the call stack goes.
  const stack = roots.map((id) => ({ id, parent: "" })).reverse();
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const proto = components.transforms[next.id];
    if (proto === undefined) {
      const where = next.parent === "" ? "the pipeline's root transforms" : `the subtransforms of '${next.parent}'`;
      throw userError("INVALID_ARGUMENT", `Transform id '${next.id}' among ${where} is not in the pipeline.`);
    }
    if (seen.has(next.id)) {
      throw userError(
        "INVALID_ARGUMENT",
        `The pipeline holds ${nameTransform(proto)} in more than one place, or in itself.`,
      );
    }
    seen.add(next.id);
    if (isRun(proto, components)) leaves.push(next.id);
    else if (proto.subtransforms.length > 0) {
      for (const id of proto.subtransforms.toReversed()) stack.push({ id, parent: proto.uniqueName });
    } else if (!isPassThrough(proto)) leaves.push(next.id);
  }
  return leaves;
}

/** Nodes such that producers come before consumers, otherwise as they stood. @throws WeirError on a cycle. */
function sortByDependency(nodes: readonly PlanNode[]): PlanNode[] {
  const producerOf = producers(nodes);
  const state = new Map<PlanNode, "open" | "done">();
  const sorted: PlanNode[] = [];
  for (const start of nodes) {
    const stack: PlanNode[] = [start];
    for (let node = stack.at(-1); node !== undefined; node = stack.at(-1)) {
      if (state.get(node) === undefined) {
        state.set(node, "open");
        for (const input of inputsOf(node).reverse()) {
          const producer = producerOf.get(input);
          if (producer === undefined || state.get(producer) === "done") continue;
          if (state.get(producer) === "open") {
            throw userError("INVALID_ARGUMENT", `The pipeline has a cycle through ${nameTransform(producer.proto)}.`);
          }
          stack.push(producer);
        }
      } else {
        stack.pop();
        if (state.get(node) === "open") {
          state.set(node, "done");
          sorted.push(node);
        }
      }
    }
  }
  return sorted;
}

function inputsOf(node: PlanNode): string[] {
  return [...node.mainInputs, ...node.sideInputs.map((side) => side.pcollectionId)];
}

const RUN_AS_THEY_STAND: ReadonlySet<string> = new Set([
  URN.impulse,
  URN.testStream,
  URN.groupByKey,
  URN.flatten,
  URN.parDo,
]);

/** A transform that is run as it stands, whatever its subtransforms. */
function isRun(proto: PTransform, components: Components): boolean {
  const urn = proto.spec?.urn ?? "";
  if (RUN_AS_THEY_STAND.has(urn)) return true;
  if (REDISTRIBUTE_URNS.has(urn))
    return Object.keys(proto.inputs).length === 1 && Object.keys(proto.outputs).length === 1;
  if (urn === URN.combinePerKey && proto.environmentId !== "") {
    if (proto.subtransforms.length === 0) return true;
    const isLifted = proto.subtransforms.some((id) => components.transforms[id]?.spec?.urn === URN.combinePrecombine);
    return !isLifted && canLift(proto, components);
  }
  return proto.subtransforms.length === 0 && SDK_TRANSFORM_URNS.has(urn);
}

/**
 * A composite without content: what comes out is what went in. Without outputs it is one only under a name that no
 * runner gives a meaning to; any other is a sink that would be lost.
 */
function isPassThrough(proto: PTransform): boolean {
  const outputs = Object.values(proto.outputs);
  if (outputs.length === 0) return NAMELESS_COMPOSITE_URNS.has(proto.spec?.urn ?? "");
  const inputs = new Set(Object.values(proto.inputs));
  return outputs.every((output) => inputs.has(output));
}

const NAMELESS_COMPOSITE_URNS: ReadonlySet<string> = new Set([
  "",
  "beam:transform:generic_composite:v1",
  "beam:transform:pickled_python:v1",
]);
