/**
 * Expands a splittable DoFn into pair with restriction → split and size restrictions → process sized elements and
 * restrictions. The process transform keeps the id and name that the user's metrics carry; between split and process
 * restrictions are spread over the workers. A pipeline that is drained from the start truncates them before that.
 * Source: Beam's fn_api_runner/translations.py, `expand_sdf`.
 */
import { userError } from "../../base/errors.ts";
import { makeNode, nameTransform, type Plan, type PlanNode, unusedId } from "../plan-node.ts";
import { CODER_URN, URN } from "../urns.ts";
import type { WireCoders } from "../wire-coders.ts";

const TRUNCATE = "TruncateSizedRestrictions";

export function expandSplittableDoFns(plan: Plan, coders: WireCoders, truncates: boolean): void {
  plan.nodes = plan.nodes.flatMap((node) =>
    node.proto.spec?.urn === URN.parDo && node.parDo !== undefined && node.parDo.restrictionCoderId !== ""
      ? expand(plan, coders, node, node.parDo.restrictionCoderId, truncates)
      : [node],
  );
}

function expand(
  plan: Plan,
  coders: WireCoders,
  node: PlanNode,
  restrictionCoderId: string,
  truncates: boolean,
): PlanNode[] {
  const sideInputNames = new Set(node.sideInputs.map((side) => side.localName));
  const main = Object.entries(node.proto.inputs).find(([name]) => !sideInputNames.has(name));
  const input = plan.pcollections.get(main?.[1] ?? "");
  if (main === undefined || input === undefined || node.mainInputs.length !== 1) {
    throw userError("INVALID_ARGUMENT", `${nameTransform(node.proto)} must have one main input.`);
  }
  const [mainName, inputId] = main;
  const kv = (key: string, value: string): string => coders.of(`kv(${key},${value})`, CODER_URN.kv, [key, value]);
  const paired = kv(input.coderId, restrictionCoderId);
  const sized = kv(paired, coders.of("double", CODER_URN.double, []));
  const pcollection = (name: string, coderId: string): string => {
    const id = unusedId(plan.pcollections, `${inputId}/${node.id}/${name}`);
    plan.pcollections.set(id, { ...input, uniqueName: `${node.proto.uniqueName}/${name}.out`, coderId });
    return id;
  };
  const pairedId = pcollection("PairWithRestriction", paired);
  const sizedId = pcollection("SplitAndSizeRestrictions", sized);
  const part = (name: string, urn: string, from: string, outputs: Record<string, string>): PlanNode =>
    makeNode(plan, `${node.id}${name}`, {
      ...node.proto,
      uniqueName: `${node.proto.uniqueName}${name}`,
      spec: { urn, payload: node.proto.spec?.payload ?? new Uint8Array() },
      inputs: { ...node.proto.inputs, [mainName]: from },
      outputs,
    });
  const pair = part("/PairWithRestriction", URN.sdfPairWithRestriction, inputId, { out: pairedId });
  const split = part("/SplitAndSizeRestrictions", URN.sdfSplitAndSize, pairedId, { out: sizedId });
  if (!truncates) return [pair, split, part("", URN.sdfProcess, sizedId, node.proto.outputs)];
  const truncatedId = pcollection(TRUNCATE, sized);
  return [
    pair,
    split,
    part(`/${TRUNCATE}`, URN.sdfTruncate, sizedId, { out: truncatedId }),
    part("", URN.sdfProcess, truncatedId, node.proto.outputs),
  ];
}
