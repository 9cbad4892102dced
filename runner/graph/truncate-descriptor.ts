/**
 * How a drain asks an SDF to truncate restrictions: sdf_truncate_sized_restrictions:v1 between a source and a sink that
 * both carry what the stage's process transform reads. Only stages whose SDF writes an unbounded PCollection have it;
 * bounded work is finished, not truncated.
 */
import { IsBounded_Enum } from "../../proto/gen/beam_runner_api.ts";
import { present } from "../base/assert.ts";
import type { TruncateSpec } from "./execution-graph.ts";
import type { FusedStage } from "./fuse-stages.ts";
import { makeNode, pcollectionOf, type Plan } from "./plan-node.ts";
import { buildDescriptor } from "./process-bundle-descriptor.ts";
import { URN } from "./urns.ts";
import type { WireCoders } from "./wire-coders.ts";

export function truncateSpec(
  plan: Plan,
  coders: WireCoders,
  stage: FusedStage,
  inputElementCoderId: string,
): TruncateSpec | undefined {
  const [process] = stage.nodes;
  if (stage.root !== "sized-restrictions" || process === undefined) return undefined;
  if (!process.outputs.some((output) => pcollectionOf(plan, output).isBounded === IsBounded_Enum.UNBOUNDED)) {
    return undefined;
  }
  const truncatedId = `${stage.inputId}/Truncated`;
  plan.pcollections.set(truncatedId, { ...pcollectionOf(plan, stage.inputId), uniqueName: truncatedId });
  const node = makeNode(plan, `${process.id}/Truncate`, {
    ...process.proto,
    uniqueName: `${process.proto.uniqueName}/Truncate`,
    spec: { urn: URN.sdfTruncate, payload: process.proto.spec?.payload ?? new Uint8Array() },
    outputs: { out: truncatedId },
  });
  const built = buildDescriptor(plan, coders, {
    id: `truncate:${process.id}`,
    nodes: [node],
    inputId: stage.inputId,
    inputElementCoderId,
    outputIds: [truncatedId],
  });
  const sink = present(built.sinks[0], "the sink of truncated restrictions");
  return {
    descriptor: built.bytes,
    sourceTransformId: built.sourceTransformId,
    sinkTransformId: sink.transformId,
  };
}
