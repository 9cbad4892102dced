/**
 * Makes the elements of a TestStream bytes that the runner can pass on without knowing their coder. An event holds an
 * element as its coder writes it alone, which says nothing about how it would be written inside a windowed value, or
 * where in it a key ends. So what leaves a TestStream is coded as length_prefix(payload's coder), a length and the
 * event's bytes whatever the coder, and an identity in an SDK (a Flatten with one input) decodes it and encodes it with
 * the PCollection's own coder. Go's own coder writes its length even where it stands alone: that length is taken off.
 */
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { TestStreamPayload } from "../../../proto/gen/beam_runner_api.ts";
import { userError } from "../../base/errors.ts";
import {
  makeNode,
  nameTransform,
  pcollectionOf,
  type Plan,
  type PlanNode,
  sortedEntries,
  unusedId,
} from "../plan-node.ts";
import { CODER_URN, URN } from "../urns.ts";
import type { WireCoders } from "../wire-coders.ts";

/** Expects nodes sorted by dependency, and leaves them so. What nobody reads nobody decodes. */
export function frameTestStreams(plan: Plan, coders: WireCoders): void {
  plan.nodes = plan.nodes.flatMap((node) => (node.kind === "test-stream" ? frame(plan, coders, node) : [node]));
}

/** @throws WeirError INVALID_ARGUMENT when the transform's payload is none of a TestStream. */
export function testStreamPayload(node: PlanNode): TestStreamPayload {
  try {
    return TestStreamPayload.decode(node.proto.spec?.payload ?? new Uint8Array());
  } catch {
    throw userError("INVALID_ARGUMENT", `The payload of ${nameTransform(node.proto)} is not a TestStreamPayload.`);
  }
}

function frame(plan: Plan, coders: WireCoders, node: PlanNode): PlanNode[] {
  const decoded = testStreamPayload(node);
  const { coderId } = decoded;
  const framed = coders.of(`${coderId}:framed`, CODER_URN.lengthPrefix, [coderId]);
  const outputs: Record<string, string> = {};
  const isRead = new Set(plan.nodes.flatMap((reader) => Object.values(reader.proto.inputs)));
  const identities = sortedEntries(node.proto.outputs).flatMap(([tag, outputId]) => {
    const output = pcollectionOf(plan, outputId);
    const name = `${node.proto.uniqueName}/Decode/${tag}`;
    const framedId = unusedId(plan.pcollections, `${outputId}/Framed`);
    plan.pcollections.set(framedId, {
      ...output,
      uniqueName: `${node.proto.uniqueName}/${tag}.framed`,
      coderId: framed,
    });
    outputs[tag] = framedId;
    if (!isRead.has(outputId)) return [];
    const identity = {
      ...node.proto,
      uniqueName: name,
      spec: { urn: URN.flatten, payload: new Uint8Array() },
      environmentId: environmentFor(plan, node, outputId),
      inputs: { in: framedId },
      outputs: { out: outputId },
    };
    return [makeNode(plan, `${node.id}/Decode/${tag}`, identity, "sdk")];
  });
  const payload =
    coders.urn(coderId) === GO_CODER_URN
      ? TestStreamPayload.encode(withoutLengths(node, decoded)).finish()
      : (node.proto.spec?.payload ?? new Uint8Array());
  const spec = { urn: URN.testStream, payload };
  return [makeNode(plan, node.id, { ...node.proto, spec, outputs }), ...identities];
}

const GO_CODER_URN = "beam:go:coder:custom:v1";

function withoutLengths(node: PlanNode, payload: TestStreamPayload): TestStreamPayload {
  return {
    ...payload,
    events: payload.events.map(({ event }) => {
      if (event?.$case !== "elementEvent") return { event };
      const elements = event.value.elements.map((element) => ({
        ...element,
        encodedElement: withoutLength(node, element.encodedElement),
      }));
      return { event: { $case: "elementEvent", value: { ...event.value, elements } } };
    }),
  };
}

function withoutLength(node: PlanNode, encoded: Uint8Array): Uint8Array {
  const reader = new BinaryReader(encoded);
  const length = reader.uint32();
  if (reader.pos + length === encoded.length) return encoded.subarray(reader.pos);
  throw userError("INVALID_ARGUMENT", `An element of ${nameTransform(node.proto)} does not begin with its length.`);
}

/** The SDK that knows the coder: the one that reads the elements first, since the TestStream itself need not name it. */
function environmentFor(plan: Plan, node: PlanNode, outputId: string): string {
  const reached = new Set([outputId]);
  for (const reader of plan.nodes) {
    if (!Object.values(reader.proto.inputs).some((input) => reached.has(input))) continue;
    if (reader.kind === "sdk") return reader.proto.environmentId;
    for (const output of reader.outputs) reached.add(output);
  }
  const environmentId = plan.environments.has(node.proto.environmentId)
    ? node.proto.environmentId
    : plan.environments.keys().next().value;
  if (environmentId === undefined) {
    throw userError("INVALID_ARGUMENT", `No environment can decode the elements of ${nameTransform(node.proto)}.`);
  }
  return environmentId;
}
