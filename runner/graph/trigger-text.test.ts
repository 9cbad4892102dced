import test from "ava";
import { Trigger } from "../../proto/gen/beam_runner_api.ts";
import { triggerText } from "./trigger-text.ts";

const text = (trigger: Trigger["trigger"]) => triggerText(Trigger.encode({ trigger }).finish());
const count = (elementCount: number): Trigger => ({ trigger: { $case: "elementCount", value: { elementCount } } });
const delay: Trigger = {
  trigger: {
    $case: "afterProcessingTime",
    value: {
      timestampTransforms: [
        { timestampTransform: { $case: "delay", value: { delayMillis: 5000n } } },
        { timestampTransform: { $case: "alignTo", value: { period: 60n, offset: 7n } } },
      ],
    },
  },
};

test("triggers are told in words", (t) => {
  t.is(triggerText(new Uint8Array()), "Default");
  t.is(text({ $case: "default", value: {} }), "Default");
  t.is(text({ $case: "repeat", value: { subtrigger: count(3) } }), "Repeat(AfterCount(3))");
  t.is(
    text({ $case: "afterEndOfWindow", value: { earlyFirings: delay, lateFirings: count(1) } }),
    "AfterEndOfWindow(early AfterProcessingTime(5000 ms, to 60 ms from 7), late AfterCount(1))",
  );
  t.is(
    text({ $case: "afterEndOfWindow", value: { earlyFirings: undefined, lateFirings: undefined } }),
    "AfterEndOfWindow",
  );
  const never: Trigger = { trigger: { $case: "never", value: {} } };
  t.is(
    text({ $case: "afterAny", value: { subtriggers: [never, { trigger: { $case: "always", value: {} } }] } }),
    "AfterAny(Never, Always)",
  );
  t.is(text({ $case: "orFinally", value: { main: never, finally: count(2) } }), "OrFinally(Never, AfterCount(2))");
  t.is(text({ $case: "afterSynchronizedProcessingTime", value: {} }), "AfterSynchronizedProcessingTime");
});
