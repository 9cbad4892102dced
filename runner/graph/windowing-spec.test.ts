import test from "ava";
import {
  ClosingBehavior_Enum,
  Environment,
  OnTimeBehavior_Enum,
  type Trigger,
  WindowingStrategy,
} from "../../proto/gen/beam_runner_api.ts";
import { windowingSpec } from "./windowing-spec.ts";
import { WireCoders } from "./wire-coders.ts";

const WINDOW_CODER = { spec: { urn: "beam:coder:global_window:v1", payload: new Uint8Array() }, componentCoderIds: [] };
const sdk = (name: string) =>
  Environment.fromPartial({ capabilities: [`beam:version:sdk_base:apache/beam_${name}:2`] });
const PYTHON = sdk("python3.11_sdk");
const JAVA = sdk("java11_sdk");

const count: Trigger = { trigger: { $case: "elementCount", value: { elementCount: 3 } } };
const time: Trigger = { trigger: { $case: "afterProcessingTime", value: { timestampTransforms: [] } } };
const endOfWindow: Trigger = {
  trigger: { $case: "afterEndOfWindow", value: { earlyFirings: count, lateFirings: undefined } },
};
const repeat = (subtrigger: Trigger): Trigger => ({ trigger: { $case: "repeat", value: { subtrigger } } });
const any = (...subtriggers: Trigger[]): Trigger => ({ trigger: { $case: "afterAny", value: { subtriggers } } });
const orFinally = (main: Trigger, last: Trigger): Trigger => ({
  trigger: { $case: "orFinally", value: { main, finally: last } },
});

/** [closing behaviour, on-time behaviour] of a windowing that has what Python always sends. */
function behaviors(trigger: Trigger | undefined, environment: Environment | undefined, unsafe = false): string[] {
  const windowing = WindowingStrategy.fromPartial({
    windowCoderId: "window",
    closingBehavior: ClosingBehavior_Enum.EMIT_ALWAYS,
    onTimeBehavior: OnTimeBehavior_Enum.FIRE_ALWAYS,
    ...(trigger === undefined ? {} : { trigger }),
  });
  const coders = new WireCoders(new Map([["window", WINDOW_CODER]]));
  const { closingBehavior, onTimeBehavior } = windowingSpec(windowing, coders, environment, unsafe);
  return [closingBehavior, onTimeBehavior];
}

test("Python's constant behaviours are what its own runner does: an on-time pane where the trigger waits for it", (t) => {
  for (const trigger of [
    undefined,
    endOfWindow,
    repeat(any(count, endOfWindow)),
    orFinally(repeat(count), endOfWindow),
  ])
    t.deepEqual(behaviors(trigger, PYTHON), ["EMIT_IF_NONEMPTY", "FIRE_ALWAYS"]);
  for (const trigger of [count, repeat(count), repeat(any(count, time)), orFinally(repeat(time), count)])
    t.deepEqual(behaviors(trigger, PYTHON), ["EMIT_IF_NONEMPTY", "FIRE_IF_NONEMPTY"]);
});

test("other SDKs mean the behaviours that they send, whatever the trigger", (t) => {
  for (const environment of [JAVA, undefined])
    for (const trigger of [undefined, endOfWindow, count, repeat(time)])
      t.deepEqual(behaviors(trigger, environment, true), ["EMIT_ALWAYS", "FIRE_ALWAYS"]);
});

test("Python's option gives up what a count that is asked for once has not reached, and nothing else", (t) => {
  const closing = (trigger: Trigger) => behaviors(trigger, PYTHON, true)[0];
  for (const trigger of [count, any(count, count), orFinally(count, count)]) t.is(closing(trigger), "EMIT_NEVER");
  for (const trigger of [repeat(count), endOfWindow, time, any(count, time)])
    t.is(closing(trigger), "EMIT_IF_NONEMPTY");
});

test("a pipeline of Python's that was not made for a portable runner has Python's constants, too", (t) => {
  const unprepared = Environment.fromPartial({ urn: "beam:env:default:v1" });
  for (const trigger of [undefined, count, endOfWindow, repeat(time)])
    t.deepEqual(behaviors(trigger, unprepared), behaviors(trigger, PYTHON));
});
