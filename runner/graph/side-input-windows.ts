/**
 * What decides when a window of a side input can be read: how main windows are mapped to it, and whether it is final
 * when the watermark has passed it or goes on to be updated pane by pane.
 *
 * Why a trigger alone does not make a side input an updating one: a bounded PCollection, and one whose windows end, has
 * a last word on each window; to wait for it is what Beam's tests expect (`test_multi_triggered_gbk_side_input`) and
 * gives the same result however the panes were cut. The global window of an unbounded PCollection never ends.
 */
import {
  type FunctionSpec,
  IsBounded_Enum,
  type Trigger,
  type WindowingStrategy,
} from "../../proto/gen/beam_runner_api.ts";
import { type NodeSideInput, pcollectionOf, type Plan, type PlanNode, windowingOf } from "./plan-node.ts";
import { FIXED_WINDOWS_URN, GLOBAL_WINDOWS_URN, SLIDING_WINDOWS_URN } from "./urns.ts";

/** Mapped by the runner itself: every SDK maps to these by the main window's maximum timestamp. */
const NATIVE: ReadonlySet<string> = new Set([GLOBAL_WINDOWS_URN, FIXED_WINDOWS_URN, SLIDING_WINDOWS_URN]);

export function windowMappingOf(plan: Plan, side: NodeSideInput): FunctionSpec | undefined {
  return NATIVE.has(windowFnOf(windowingOfSide(plan, side))) ? undefined : side.windowMapping;
}

export function isUpdating(plan: Plan, side: NodeSideInput): boolean {
  if (pcollectionOf(plan, side.pcollectionId).isBounded !== IsBounded_Enum.UNBOUNDED) return false;
  const windowing = windowingOfSide(plan, side);
  const { trigger } = windowing.trigger ?? { trigger: undefined };
  if (trigger === undefined || trigger.$case === "default" || trigger.$case === "never") return false;
  if (windowFnOf(windowing) !== GLOBAL_WINDOWS_URN) return !waitsForEnd({ trigger });
  return trigger.$case !== "afterEndOfWindow" || trigger.value.earlyFirings !== undefined;
}

/** True when the trigger's last on-time word comes at the end of the window. */
function waitsForEnd({ trigger }: Trigger): boolean {
  switch (trigger?.$case) {
    case undefined:
    case "default":
    case "never":
    case "afterEndOfWindow":
      return true;
    case "repeat":
      return trigger.value.subtrigger !== undefined && waitsForEnd(trigger.value.subtrigger);
    case "afterAll":
    case "afterEach":
      return trigger.value.subtriggers.some(waitsForEnd);
    case "afterAny":
      return trigger.value.subtriggers.every(waitsForEnd);
    case "orFinally":
      return [trigger.value.main, trigger.value.finally].every((part) => part !== undefined && waitsForEnd(part));
    default:
      return false;
  }
}

/**
 * True when main input of a stage that reads `stageInputId` can wait at the stage's input for the node's side inputs:
 * their windows are those of the node's own main input, or the side input has but one.
 */
export function canWaitAt(plan: Plan, node: PlanNode, stageInputId: string): boolean {
  const stageWindowing = pcollectionOf(plan, stageInputId).windowingStrategyId;
  const ownWindowing = pcollectionOf(plan, node.mainInputs[0] ?? "").windowingStrategyId;
  if (stageWindowing === ownWindowing) return true;
  return node.sideInputs.every((side) => windowFnOf(windowingOfSide(plan, side)) === GLOBAL_WINDOWS_URN);
}

function windowingOfSide(plan: Plan, side: NodeSideInput): WindowingStrategy {
  return windowingOf(plan, pcollectionOf(plan, side.pcollectionId).windowingStrategyId);
}

function windowFnOf(windowing: WindowingStrategy): string {
  return windowing.windowFn?.urn ?? "";
}
