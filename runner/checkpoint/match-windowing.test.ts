import test from "ava";
import { type ManifestWindowing, windowingChanges } from "./match-windowing.ts";

const WINDOWING: ManifestWindowing = {
  windowFn: "beam:window_fn:fixed_windows:v1?AA==",
  trigger: "Cg==",
  accumulationMode: "DISCARDING",
  allowedLatenessMs: 0,
  merging: false,
  triggerText: "Repeat(AfterAny(AfterCount(3), AfterProcessingTime(5 ms)))",
  timestampCombiner: "END_OF_WINDOW",
  closingBehavior: "EMIT_IF_NONEMPTY",
  onTimeBehavior: "FIRE_ALWAYS",
};
const change = (part: Partial<ManifestWindowing>) => windowingChanges(WINDOWING, { ...WINDOWING, ...part });
const incompatible = (part: Partial<ManifestWindowing>): string => {
  const found = change(part);
  return found.changed.length === 0 ? found.incompatible.join() : `and changed: ${found.changed.join()}`;
};
const changed = (part: Partial<ManifestWindowing>): string => {
  const found = change(part);
  return found.incompatible.length === 0 ? found.changed.join() : `and incompatible: ${found.incompatible.join()}`;
};

test("what windows that have begun could not be read by is incompatible, and says what was and what is", (t) => {
  t.is(
    incompatible({ windowFn: "beam:window_fn:sliding_windows:v1?AA==" }),
    "its WindowFn was beam:window_fn:fixed_windows:v1 and is beam:window_fn:sliding_windows:v1 now.",
  );
  t.is(incompatible({ merging: true }), "its windows did not merge and do now.");
  t.is(
    incompatible({ accumulationMode: "ACCUMULATING" }),
    "its accumulation mode was DISCARDING and is ACCUMULATING now.",
  );
  t.regex(
    incompatible({ trigger: "", triggerText: "Default" }),
    /its trigger was Repeat\(.*\) and is Default now, and windows that have begun have the state of the former one/,
  );
  t.regex(incompatible({ trigger: "Cw==", triggerText: "Repeat(AfterAny(AfterCount(3)))" }), /trigger was/);
});

test("what windows that have begun go on with is told", (t) => {
  t.regex(
    changed({ windowFn: "beam:window_fn:fixed_windows:v1?AAE=" }),
    /other parameters; windows that have begun stay/,
  );
  t.is(changed({ allowedLatenessMs: 5 }), "its allowed lateness was 0 ms and is 5 ms now.");
  t.regex(
    changed({ timestampCombiner: "LATEST_IN_PANE" }),
    /timestamp combiner was END_OF_WINDOW and is LATEST_IN_PANE/,
  );
  t.regex(changed({ closingBehavior: "EMIT_ALWAYS" }), /closing behaviour was EMIT_IF_NONEMPTY and is EMIT_ALWAYS/);
  t.regex(changed({ onTimeBehavior: "FIRE_IF_NONEMPTY" }), /on-time behaviour was FIRE_ALWAYS and is FIRE_IF_NONEMPTY/);
  t.regex(
    changed({
      trigger: "Cw==",
      triggerText: "Repeat(AfterAny(AfterCount(30), AfterProcessingTime(5 ms, to 60 ms from 0)))",
    }),
    /trigger was .*AfterCount\(3\).* and is .*AfterCount\(30\).* now; windows that have begun go on by the new one/,
  );
});

test("the same windowing is no change, and neither is what an older snapshot does not say", (t) => {
  t.deepEqual(change({}), { incompatible: [], changed: [] });
  // The default trigger, spelled out.
  t.deepEqual(
    windowingChanges({ ...WINDOWING, trigger: "", triggerText: "Default" }, { ...WINDOWING, triggerText: "Default" }),
    { incompatible: [], changed: [] },
  );
  const { windowFn, trigger, accumulationMode, allowedLatenessMs } = WINDOWING;
  const older = { windowFn, trigger, accumulationMode, allowedLatenessMs };
  t.deepEqual(windowingChanges(older, { ...WINDOWING, merging: true, closingBehavior: "EMIT_ALWAYS" }), {
    incompatible: [],
    changed: [],
  });
  t.regex(windowingChanges(older, { ...WINDOWING, trigger: "" }).incompatible.join(), /trigger was changed/);
});
