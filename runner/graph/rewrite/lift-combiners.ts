/**
 * Lifts combiners: CombinePerKey becomes precombine → GroupByKey → merge accumulators → extract outputs, so that
 * values of a key are combined before they are shuffled. Where the trigger must see every element it becomes
 * GroupByKey → combine grouped values. Combiners that the client has lifted already just run.
 * Source: Beam's fn_api_runner/translations.py, `lift_combiners`.
 */
import {
  CombinePayload,
  type Components,
  type Environment,
  IsBounded_Enum,
  OutputTime_Enum,
  type PCollection,
  type PTransform,
  type Trigger,
  type WindowingStrategy,
} from "../../../proto/gen/beam_runner_api.ts";
import { userError } from "../../base/errors.ts";
import { makeNode, nameTransform, type Plan, type PlanNode, unusedId } from "../plan-node.ts";
import { CODER_URN, URN } from "../urns.ts";
import { asksTriggerForEachElement } from "../windowing-spec.ts";
import type { WireCoders } from "../wire-coders.ts";

/** True when the windowing of a CombinePerKey's input lets values be combined before they are grouped. */
export function canLift(transform: PTransform, components: Components): boolean {
  const input = components.pcollections[Object.values(transform.inputs)[0] ?? ""];
  const windowing = components.windowingStrategies[input?.windowingStrategyId ?? ""];
  return windowingAllowsLifting(input, windowing, components.environments[transform.environmentId]);
}

export function liftCombiners(plan: Plan, coders: WireCoders): void {
  plan.nodes = plan.nodes.flatMap((node) =>
    node.proto.spec?.urn === URN.combinePerKey ? lift(plan, coders, node) : [node],
  );
}

function lift(plan: Plan, coders: WireCoders, node: PlanNode): PlanNode[] {
  const [inputId] = node.mainInputs;
  const [outputId] = node.outputs;
  const input = plan.pcollections.get(inputId ?? "");
  const output = plan.pcollections.get(outputId ?? "");
  if (inputId === undefined || input === undefined || output === undefined || node.mainInputs.length !== 1) {
    throw userError("INVALID_ARGUMENT", `${nameTransform(node.proto)} must have one input and one output.`);
  }
  const inputCoder = coders.get(input.coderId);
  const [keyCoderId, valueCoderId] = inputCoder.componentCoderIds;
  if (inputCoder.spec?.urn !== CODER_URN.kv || keyCoderId === undefined || valueCoderId === undefined) {
    throw userError("INVALID_ARGUMENT", `The input of ${nameTransform(node.proto)} is not coded as KV.`);
  }
  const pcollection = (name: string, coderId: string, like: PCollection): string => {
    const id = unusedId(plan.pcollections, `${outputId}/${name}`);
    plan.pcollections.set(id, { ...like, uniqueName: `${node.proto.uniqueName}/${name}.out`, coderId });
    return id;
  };
  const part = (name: string, urn: string, from: string, to: string, payload = node.proto.spec?.payload): PlanNode =>
    makeNode(plan, `${node.id}/${name}`, {
      ...node.proto,
      uniqueName: `${node.proto.uniqueName}/${name}`,
      spec: { urn, payload: payload ?? new Uint8Array() },
      environmentId: urn === URN.groupByKey ? "" : node.proto.environmentId,
      inputs: { in: from },
      outputs: { out: to },
    });
  const kv = (value: string): string => coders.of(`kv(${keyCoderId},${value})`, CODER_URN.kv, [keyCoderId, value]);
  const kvs = (value: string): string => kv(coders.of(`iterable(${value})`, CODER_URN.iterable, [value]));

  const environment = plan.environments.get(node.proto.environmentId);
  if (!windowingAllowsLifting(input, plan.windowings.get(input.windowingStrategyId), environment)) {
    const grouped = pcollection("Group", kvs(valueCoderId), output);
    return [
      part("Group", URN.groupByKey, inputId, grouped, new Uint8Array()),
      part("CombineValues", URN.combineGroupedValues, grouped, outputId ?? ""),
    ];
  }
  const accumulator = CombinePayload.decode(node.proto.spec?.payload ?? new Uint8Array()).accumulatorCoderId;
  const precombined = pcollection("Precombine", kv(accumulator), input);
  const grouped = pcollection("Group", kvs(accumulator), output);
  const merged = pcollection("Merge", kv(accumulator), output);
  return [
    part("Precombine", URN.combinePrecombine, inputId, precombined),
    part("Group", URN.groupByKey, precombined, grouped, new Uint8Array()),
    part("Merge", URN.combineMergeAccumulators, grouped, merged),
    part("ExtractOutputs", URN.combineExtractOutputs, merged, outputId ?? ""),
  ];
}

function windowingAllowsLifting(
  input: PCollection | undefined,
  windowing: WindowingStrategy | undefined,
  environment: Environment | undefined,
): boolean {
  // A precombined value of late elements and others has the timestamp of a late one: it would not hold the watermark.
  const isLate = input?.isBounded === IsBounded_Enum.UNBOUNDED;
  if (isLate && windowing !== undefined && windowing.outputTime !== OutputTime_Enum.END_OF_WINDOW) return false;
  return triggerAllowsLifting(windowing?.trigger, asksTriggerForEachElement(environment));
}

/** Triggers that count elements must see each of them, and so must those that fire for each. */
function triggerAllowsLifting(trigger: Trigger | undefined, firesForEach: boolean): boolean {
  const spec = trigger?.trigger;
  if (spec === undefined) return true;
  switch (spec.$case) {
    case "always":
      return !firesForEach;
    case "default":
    case "never":
    case "afterProcessingTime":
    case "afterSynchronizedProcessingTime":
      return true;
    case "elementCount":
      return spec.value.elementCount === 1 && !firesForEach;
    case "afterEndOfWindow":
      return [spec.value.earlyFirings, spec.value.lateFirings].every((part) =>
        triggerAllowsLifting(part, firesForEach),
      );
    case "afterAny":
      return spec.value.subtriggers.every((part) => triggerAllowsLifting(part, firesForEach));
    case "repeat":
      return triggerAllowsLifting(spec.value.subtrigger, firesForEach);
    case "afterAll":
    case "afterEach":
    case "orFinally":
      return false;
  }
}
