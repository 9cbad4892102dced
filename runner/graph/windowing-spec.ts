/** Windowing strategies of the proto as the plain data of the execution graph. */
import {
  AccumulationMode_Enum,
  ClosingBehavior_Enum,
  type Environment,
  MergeStatus_Enum,
  OnTimeBehavior_Enum,
  OutputTime_Enum,
  Trigger,
  type WindowingStrategy,
} from "../../proto/gen/beam_runner_api.ts";
import type { WindowingSpec } from "./execution-graph.ts";
import type { WireCoders } from "./wire-coders.ts";

const PYTHON_SDK = "beam:version:sdk_base:apache/beam_python";

/**
 * @param environment of the SDK that made the windowing, where it is known. Python has no closing behaviour: what it
 *   sends is a constant, EMIT_ALWAYS, while its own runner and its tests have no empty closing pane.
 */
export function windowingSpec(
  windowing: WindowingStrategy,
  coders: WireCoders,
  environment: Environment | undefined,
): WindowingSpec {
  const isPython = environment?.capabilities.some((capability) => capability.startsWith(PYTHON_SDK)) === true;
  return {
    windowFnUrn: windowing.windowFn?.urn ?? "",
    windowFnPayload: windowing.windowFn?.payload ?? new Uint8Array(),
    windowCoderId: coders.wireWindow(windowing.windowCoderId),
    merging: windowing.mergeStatus === MergeStatus_Enum.NEEDS_MERGE,
    timestampCombiner: timestampCombiner(windowing.outputTime),
    trigger: Trigger.encode(windowing.trigger ?? { trigger: undefined }).finish(),
    accumulationMode: accumulationMode(windowing.accumulationMode),
    allowedLatenessMs: Number(windowing.allowedLateness),
    closingBehavior:
      windowing.closingBehavior === ClosingBehavior_Enum.EMIT_ALWAYS && !isPython ? "EMIT_ALWAYS" : "EMIT_IF_NONEMPTY",
    onTimeBehavior:
      windowing.onTimeBehavior === OnTimeBehavior_Enum.FIRE_IF_NONEMPTY ? "FIRE_IF_NONEMPTY" : "FIRE_ALWAYS",
  };
}

function timestampCombiner(outputTime: OutputTime_Enum): WindowingSpec["timestampCombiner"] {
  if (outputTime === OutputTime_Enum.LATEST_IN_PANE) return "LATEST_IN_PANE";
  return outputTime === OutputTime_Enum.EARLIEST_IN_PANE ? "EARLIEST_IN_PANE" : "END_OF_WINDOW";
}

function accumulationMode(mode: AccumulationMode_Enum): WindowingSpec["accumulationMode"] {
  if (mode === AccumulationMode_Enum.ACCUMULATING) return "ACCUMULATING";
  return mode === AccumulationMode_Enum.RETRACTING ? "RETRACTING" : "DISCARDING";
}
