/**
 * Makes declared coders agree with the bytes that really flow. The runner changes no bytes, so what comes out of a
 * GroupByKey or a Redistribute, or out of a Flatten whose inputs all share a coder, is coded as it went in, whatever
 * coder the client inferred for the output.
 *
 * Where a Flatten's inputs differ, those that are not coded as its output get an identity in their own SDK, which
 * decodes and encodes them: a Flatten with one input.
 */
import { userError } from "../../base/errors.ts";
import {
  environmentOf,
  makeNode,
  nameTransform,
  pcollectionOf,
  type Plan,
  type PlanNode,
  producers,
  sortedEntries,
  unusedId,
} from "../plan-node.ts";
import { CODER_URN } from "../urns.ts";
import type { WireCoders } from "../wire-coders.ts";

/** Expects nodes sorted by dependency, so that a changed coder reaches what comes after. */
export function unifyCoders(plan: Plan, coders: WireCoders): void {
  const producerOf = producers(plan.nodes);
  plan.nodes = plan.nodes.flatMap((node) => {
    switch (node.kind) {
      case "redistribute":
        setOutputCoder(plan, coders, node, coderOf(plan, node.mainInputs[0] ?? ""));
        return [node];
      case "group-by-key":
        setOutputCoder(plan, coders, node, groupedCoder(plan, coders, node));
        return [node];
      case "flatten":
        return unifyFlatten(plan, coders, node, producerOf);
      case "impulse":
      case "sdk":
        return [node];
    }
  });
}

function unifyFlatten(
  plan: Plan,
  coders: WireCoders,
  node: PlanNode,
  producerOf: ReadonlyMap<string, PlanNode>,
): PlanNode[] {
  const first = node.mainInputs[0];
  if (first === undefined) return [node];
  const firstCoder = coderOf(plan, first);
  if (node.mainInputs.every((input) => coders.equal(coderOf(plan, input), firstCoder))) {
    setOutputCoder(plan, coders, node, firstCoder);
    return [node];
  }
  const target = coderOf(plan, node.outputs[0] ?? "");
  const transcoders: PlanNode[] = [];
  const inputs: Record<string, string> = {};
  for (const [localName, input] of sortedEntries(node.proto.inputs)) {
    if (coders.equal(coderOf(plan, input), target)) {
      inputs[localName] = input;
      continue;
    }
    const source = plan.pcollections.get(input);
    if (source === undefined) continue;
    const name = `${node.proto.uniqueName}/Transcode/${localName}`;
    const transcoded = unusedId(plan.pcollections, `${node.outputs[0]}/Transcode/${localName}`);
    plan.pcollections.set(transcoded, { ...source, uniqueName: `${name}.out`, coderId: target });
    inputs[localName] = transcoded;
    const environmentId = environmentOf(input, producerOf) || node.proto.environmentId;
    if (environmentId === "") {
      throw userError(
        "INVALID_ARGUMENT",
        `The inputs of ${nameTransform(node.proto)} have different coders, and no environment can convert them.`,
      );
    }
    const proto = {
      ...node.proto,
      uniqueName: name,
      environmentId,
      inputs: { in: input },
      outputs: { out: transcoded },
    };
    transcoders.push(makeNode(plan, `${node.id}/Transcode/${localName}`, proto, "sdk"));
  }
  return [...transcoders, makeNode(plan, node.id, { ...node.proto, inputs })];
}

function groupedCoder(plan: Plan, coders: WireCoders, node: PlanNode): string {
  const input = coders.get(coderOf(plan, node.mainInputs[0] ?? ""));
  const [key, value] = input.componentCoderIds;
  if (input.spec?.urn !== CODER_URN.kv || key === undefined || value === undefined) {
    throw userError(
      "INVALID_ARGUMENT",
      `The input of ${nameTransform(node.proto)} is not coded as KV but as ${input.spec?.urn || "a coder without URN"}.`,
    );
  }
  const values = coders.of(`iterable(${value})`, CODER_URN.iterable, [value]);
  return coders.of(`kv(${key},${values})`, CODER_URN.kv, [key, values]);
}

function setOutputCoder(plan: Plan, coders: WireCoders, node: PlanNode, coderId: string): void {
  const outputId = node.outputs[0] ?? "";
  const output = plan.pcollections.get(outputId);
  if (output === undefined || coders.equal(output.coderId, coderId)) return;
  plan.pcollections.set(outputId, { ...output, coderId });
}

function coderOf(plan: Plan, pcollectionId: string): string {
  return pcollectionOf(plan, pcollectionId).coderId;
}
