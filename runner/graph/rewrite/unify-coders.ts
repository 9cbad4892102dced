/**
 * Makes declared coders agree with the bytes that really flow. The runner changes no bytes, so:
 *
 * - What comes out of a GroupByKey is coded as it went in, whatever coder the client inferred for the output.
 * - What goes into a Flatten or a Redistribute under another coder than comes out is encoded with the latter from the
 *   start, where nothing else reads it; otherwise it gets an identity in its own SDK, which decodes and encodes it: a
 *   Flatten with one input. The declared coder is not just replaced by the one that went in: clients declare, for what
 *   is to be grouped, a KV with a deterministic key.
 *
 * Source: Beam's fn_api_runner/translations.py, `fix_flatten_coders`.
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
import { CODER_URN, URN } from "../urns.ts";
import type { WireCoders } from "../wire-coders.ts";

/** Expects nodes sorted by dependency, so that a changed coder reaches what comes after. */
export function unifyCoders(plan: Plan, coders: WireCoders): void {
  const producerOf = producers(plan.nodes);
  const readersOf = readers(plan.nodes);
  plan.nodes = plan.nodes.flatMap((node) => {
    switch (node.kind) {
      case "group-by-key":
        codeGroups(plan, coders, node);
        return [node];
      case "flatten":
      case "redistribute":
        return transcodeInputs(plan, coders, node, producerOf, readersOf);
      case "impulse":
      case "test-stream":
      case "sdk":
        return [node];
    }
  });
}

function transcodeInputs(
  plan: Plan,
  coders: WireCoders,
  node: PlanNode,
  producerOf: ReadonlyMap<string, PlanNode>,
  readersOf: ReadonlyMap<string, readonly PlanNode[]>,
): PlanNode[] {
  const [outputId = ""] = node.outputs;
  const target = pcollectionOf(plan, outputId).coderId;
  const transcoders: PlanNode[] = [];
  const inputs: Record<string, string> = {};
  for (const [localName, inputId] of sortedEntries(node.proto.inputs)) {
    const input = pcollectionOf(plan, inputId);
    inputs[localName] = inputId;
    if (coders.equal(input.coderId, target)) continue;
    const onlyWantedSo = (readersOf.get(inputId) ?? []).every(
      ({ kind, outputs: [output = ""] }) =>
        (kind === "flatten" || kind === "redistribute") && coders.equal(pcollectionOf(plan, output).coderId, target),
    );
    if (onlyWantedSo && producerOf.get(inputId)?.kind === "sdk") {
      plan.pcollections.set(inputId, { ...input, coderId: target });
      continue;
    }
    const environmentId = environmentOf(inputId, producerOf) || node.proto.environmentId;
    if (environmentId === "") {
      throw userError(
        "INVALID_ARGUMENT",
        `An input of ${nameTransform(node.proto)} has another coder than its output, and no environment can convert it.`,
      );
    }
    const name = `${node.proto.uniqueName}/Transcode/${localName}`;
    const transcoded = unusedId(plan.pcollections, `${outputId}/Transcode/${localName}`);
    plan.pcollections.set(transcoded, { ...input, uniqueName: `${name}.out`, coderId: target });
    inputs[localName] = transcoded;
    const identity = {
      ...node.proto,
      uniqueName: name,
      spec: { urn: URN.flatten, payload: new Uint8Array() },
      environmentId,
      inputs: { in: inputId },
      outputs: { out: transcoded },
    };
    transcoders.push(makeNode(plan, `${node.id}/Transcode/${localName}`, identity, "sdk"));
  }
  return transcoders.length === 0 ? [node] : [...transcoders, makeNode(plan, node.id, { ...node.proto, inputs })];
}

function readers(nodes: readonly PlanNode[]): Map<string, PlanNode[]> {
  const result = new Map<string, PlanNode[]>();
  for (const node of nodes) {
    for (const input of Object.values(node.proto.inputs)) {
      const known = result.get(input);
      if (known === undefined) result.set(input, [node]);
      else known.push(node);
    }
  }
  return result;
}

function codeGroups(plan: Plan, coders: WireCoders, node: PlanNode): void {
  const input = coders.get(pcollectionOf(plan, node.mainInputs[0] ?? "").coderId);
  const [key, value] = input.componentCoderIds;
  if (input.spec?.urn !== CODER_URN.kv || key === undefined || value === undefined) {
    throw userError(
      "INVALID_ARGUMENT",
      `The input of ${nameTransform(node.proto)} is not coded as KV but as ${input.spec?.urn || "a coder without URN"}.`,
    );
  }
  const values = coders.of(`iterable(${value})`, CODER_URN.iterable, [value]);
  const coderId = coders.of(`kv(${key},${values})`, CODER_URN.kv, [key, values]);
  const outputId = node.outputs[0] ?? "";
  const output = pcollectionOf(plan, outputId);
  if (!coders.equal(output.coderId, coderId)) plan.pcollections.set(outputId, { ...output, coderId });
}
