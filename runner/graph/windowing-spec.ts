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
 * @param environment of the SDK that made the windowing, where it is known
 * @param allowUnsafeTriggers the pipeline option of that name
 */
export function windowingSpec(
  windowing: WindowingStrategy,
  coders: WireCoders,
  environment: Environment | undefined,
  allowUnsafeTriggers: boolean,
): WindowingSpec {
  return {
    windowFnUrn: windowing.windowFn?.urn ?? "",
    windowFnPayload: windowing.windowFn?.payload ?? new Uint8Array(),
    windowCoderId: coders.wireWindow(windowing.windowCoderId),
    merging: windowing.mergeStatus === MergeStatus_Enum.NEEDS_MERGE,
    timestampCombiner: timestampCombiner(windowing.outputTime),
    trigger: Trigger.encode(windowing.trigger ?? { trigger: undefined }).finish(),
    accumulationMode: accumulationMode(windowing.accumulationMode),
    allowedLatenessMs: Number(windowing.allowedLateness),
    closingBehavior: closingBehavior(windowing, environment, allowUnsafeTriggers),
    onTimeBehavior: onTimeBehavior(windowing, environment),
    asksTriggerFor: asksTriggerForEachElement(environment) ? "EACH_ELEMENT" : "ELEMENTS_TOGETHER",
  };
}

/**
 * The model allows either. Python's own runner and its tests expect one pane for elements that came together; Go's
 * and Prism expect one for each, and Flink gives it to all.
 */
export function asksTriggerForEachElement(environment: Environment | undefined): boolean {
  return environment !== undefined && !isPython(environment);
}

/** Of a pipeline that was not made for a portable runner, such as one for `weir upgrade-check`; without capabilities. */
const PYTHON_DEFAULT_ENVIRONMENT = "beam:env:default:v1";

function isPython(environment: Environment): boolean {
  if (environment.urn === PYTHON_DEFAULT_ENVIRONMENT) return true;
  return environment.capabilities.some((capability) => capability.startsWith(PYTHON_SDK));
}

/**
 * Python has no closing behaviour: what it sends is a constant, EMIT_ALWAYS, while its own runner and its tests have
 * no empty closing pane. Its option --allow_unsafe_triggers accepts the loss of data "due to finishing and/or never
 * having their condition met": a count that is never reached.
 */
function closingBehavior(
  windowing: WindowingStrategy,
  environment: Environment | undefined,
  allowUnsafeTriggers: boolean,
): WindowingSpec["closingBehavior"] {
  if (environment === undefined || !isPython(environment))
    return windowing.closingBehavior === ClosingBehavior_Enum.EMIT_ALWAYS ? "EMIT_ALWAYS" : "EMIT_IF_NONEMPTY";
  return allowUnsafeTriggers && onlyCounts(windowing.trigger) ? "EMIT_NEVER" : "EMIT_IF_NONEMPTY";
}

/** True for triggers that may finish and wait for numbers of elements and nothing else. */
function onlyCounts(proto: Trigger | undefined): boolean {
  const trigger = proto?.trigger;
  switch (trigger?.$case) {
    case "elementCount":
      return true;
    case "afterAll":
    case "afterAny":
    case "afterEach":
      return trigger.value.subtriggers.every(onlyCounts);
    case "orFinally":
      return onlyCounts(trigger.value.main) && onlyCounts(trigger.value.finally);
    case undefined:
    case "default":
    case "always":
    case "never":
    case "repeat":
    case "afterProcessingTime":
    case "afterSynchronizedProcessingTime":
    case "afterEndOfWindow":
      return false;
  }
}

/**
 * Python has no on-time behaviour either, and sends FIRE_ALWAYS. On its own runner, and in its tests, an empty on-time
 * pane comes of triggers that fire at the window's end, not of a repeated count or time. Other SDKs mean what they send,
 * as in the Java reference: whatever the trigger, there is one at the end of a window that has fired early only.
 */
function onTimeBehavior(
  { onTimeBehavior: sent, trigger }: WindowingStrategy,
  environment: Environment | undefined,
): WindowingSpec["onTimeBehavior"] {
  if (sent === OnTimeBehavior_Enum.FIRE_IF_NONEMPTY) return "FIRE_IF_NONEMPTY";
  const isConstant = environment !== undefined && isPython(environment);
  return isConstant && !firesAtEndOfWindow(trigger) ? "FIRE_IF_NONEMPTY" : "FIRE_ALWAYS";
}

/** A part of the trigger waits for the end of the window. */
function firesAtEndOfWindow(proto: Trigger | undefined): boolean {
  const trigger = proto?.trigger;
  switch (trigger?.$case) {
    case undefined:
    case "default":
    case "afterEndOfWindow":
      return true;
    case "afterAll":
    case "afterAny":
    case "afterEach":
      return trigger.value.subtriggers.some(firesAtEndOfWindow);
    case "orFinally":
      return [trigger.value.main, trigger.value.finally].some((part) => part !== undefined && firesAtEndOfWindow(part));
    case "repeat":
      return trigger.value.subtrigger !== undefined && firesAtEndOfWindow(trigger.value.subtrigger);
    case "always":
    case "never":
    case "elementCount":
    case "afterProcessingTime":
    case "afterSynchronizedProcessingTime":
      return false;
  }
}

function timestampCombiner(outputTime: OutputTime_Enum): WindowingSpec["timestampCombiner"] {
  if (outputTime === OutputTime_Enum.LATEST_IN_PANE) return "LATEST_IN_PANE";
  return outputTime === OutputTime_Enum.EARLIEST_IN_PANE ? "EARLIEST_IN_PANE" : "END_OF_WINDOW";
}

function accumulationMode(mode: AccumulationMode_Enum): WindowingSpec["accumulationMode"] {
  if (mode === AccumulationMode_Enum.ACCUMULATING) return "ACCUMULATING";
  return mode === AccumulationMode_Enum.RETRACTING ? "RETRACTING" : "DISCARDING";
}
