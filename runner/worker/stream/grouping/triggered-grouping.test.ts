import test from "ava";
import fc from "fast-check";
import { WeirError } from "../../../base/errors.ts";
import type { WindowingSpec } from "../../../graph/execution-graph.ts";
import {
  customWindow,
  GLOBAL,
  interval,
  SESSIONS,
  sorted,
  type Element,
} from "../../../state/grouping/grouping-fixture.ts";
import type { MergeWindows } from "../../../state/grouping/merge-windows-of-key.ts";
import { END_OF_GLOBAL_WINDOW, MAX_TIMESTAMP, type Timestamp } from "../../../time/timestamp.ts";
import { GroupingUnderTest, type Pane, triggerBytes } from "./grouping-fixture.ts";

const TO_END = { watermark: MAX_TIMESTAMP };
const hex = (window: Uint8Array): string => Buffer.from(window).toString("hex");

function at(timestamp: number, value = `v${timestamp}`, key = "k", size = 10): Element {
  const start = Math.floor(timestamp / size) * size;
  return { timestamp, windows: [interval(start, start + size)], key, value };
}

function short({ key, values, timing, index, isLast }: Pane): string {
  return `${key} ${timing}${index}${isLast ? "!" : ""} ${values.join(" ")}`;
}

test("bounded input with the default trigger gives one on-time pane for each key and window", async (t) => {
  const element = fc.record({
    timestamp: fc.integer({ min: -50, max: 50 }),
    key: fc.constantFrom("", "a", "b", "c"),
    value: fc.oneof(fc.string({ maxLength: 5 }), fc.string({ minLength: 100, maxLength: 800 })),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(element, { maxLength: 30 }), { maxLength: 8 }), async (batches) => {
      const naive = new Map<string, string[]>();
      const steps = batches.map((batch) => ({
        elements: batch.map(({ timestamp, key, value }) => {
          const made = at(timestamp, value, key);
          const name = `${hex(made.windows[0] as Uint8Array)} ${key}`;
          naive.set(name, [...(naive.get(name) ?? []), value]);
          return made;
        }),
      }));
      const tested = new GroupingUnderTest({ kind: "interval" });
      const panes = await tested.steps([...steps, TO_END]);
      t.deepEqual(sorted(new Map(panes.map(({ window, key, values }) => [`${window} ${key}`, values]))), sorted(naive));
      t.is(panes.length, naive.size);
      t.true(
        panes.every(({ isFirst, isLast, timing, index }) => isFirst && isLast && timing === "ON_TIME" && index === 0),
      );
      t.is(tested.grouping.hold, MAX_TIMESTAMP);
      t.is(tested.grouping.size, 0);
      t.is(tested.rowCount, 0);
    }),
    { numRuns: 60 },
  );
});

test("the global window fires at the end of time, with its maximum timestamp", async (t) => {
  const tested = new GroupingUnderTest({ kind: "global" });
  const panes = await tested.steps([
    { elements: [{ timestamp: 5, windows: GLOBAL, key: "k", value: "a" }] },
    { watermark: 1e12 },
    { elements: [{ timestamp: 5, windows: GLOBAL, key: "k", value: "b" }] },
    TO_END,
  ]);
  t.deepEqual(panes.map(short), ["k ON_TIME0! a b"]);
  t.is(panes[0]?.timestamp, END_OF_GLOBAL_WINDOW);
});

test("sessions merge as elements bridge them, and hold the watermark at their end", async (t) => {
  const session = (timestamp: number): Element => ({
    ...at(timestamp),
    windows: [interval(timestamp, timestamp + 10)],
  });
  const tested = new GroupingUnderTest({ kind: "interval", windowing: SESSIONS });
  t.deepEqual(await tested.steps([{ elements: [session(1), session(20)] }, { elements: [session(100)] }]), []);
  t.is(tested.grouping.hold, 10 as Timestamp);
  t.deepEqual(await tested.step({ elements: [session(11), session(3)] }), []);
  t.is(tested.grouping.hold, 29 as Timestamp);
  const panes = await tested.steps([{ watermark: 50 }]);
  t.is(panes[0]?.window, hex(interval(1, 30)));
  t.deepEqual(panes[0]?.values.toSorted(), ["v1", "v11", "v20", "v3"]);
  t.deepEqual((await tested.step(TO_END)).map(short), ["k ON_TIME0! v100"]);
});

test("closing and on-time behaviour decide about empty panes", async (t) => {
  const early = triggerBytes({
    $case: "afterEndOfWindow",
    value: { earlyFirings: { trigger: { $case: "elementCount", value: { elementCount: 1 } } }, lateFirings: undefined },
  });
  const panes = (overrides: Partial<WindowingSpec>): Promise<Pane[]> =>
    new GroupingUnderTest({ kind: "interval", windowing: { trigger: early, ...overrides } }).steps([
      { elements: [at(1)] },
      { watermark: 10 },
      TO_END,
    ]);
  t.deepEqual((await panes({ allowedLatenessMs: 0 })).map(short), ["k EARLY0 v1", "k ON_TIME1! "]);
  t.deepEqual((await panes({ allowedLatenessMs: 0, onTimeBehavior: "FIRE_IF_NONEMPTY" })).map(short), ["k EARLY0 v1"]);
  const repeated = triggerBytes({
    $case: "repeat",
    value: { subtrigger: { trigger: { $case: "elementCount", value: { elementCount: 1 } } } },
  });
  const counted = async (overrides: Partial<WindowingSpec>): Promise<string[]> =>
    (await panes({ trigger: repeated, ...overrides })).map(short);
  const nonempty = { onTimeBehavior: "FIRE_IF_NONEMPTY" } as const;
  const always = { closingBehavior: "EMIT_ALWAYS" } as const;
  // As in the Java reference: whatever the trigger is, the end of the window is the time for an on-time pane.
  t.deepEqual(await counted({}), ["k EARLY0 v1", "k ON_TIME1! "]);
  t.deepEqual(await counted(nonempty), ["k EARLY0 v1"]);
  t.deepEqual(await counted({ ...nonempty, ...always }), ["k EARLY0 v1", "k ON_TIME1! "]);
  // With lateness the last pane comes when the output watermark is past the window.
  t.deepEqual(await counted({ allowedLatenessMs: 5 }), ["k EARLY0 v1"]);
  t.deepEqual(await counted({ ...always, allowedLatenessMs: 5 }), ["k EARLY0 v1", "k LATE1! "]);
});

test("what is buffered when a window expires is emitted, though its trigger never fired", async (t) => {
  const never = triggerBytes({ $case: "never", value: {} });
  const tested = new GroupingUnderTest({ kind: "interval", windowing: { trigger: never, allowedLatenessMs: 10 } });
  t.deepEqual(await tested.steps([{ elements: [at(1)] }, { watermark: 15 }, { elements: [at(2)] }]), []);
  t.deepEqual((await tested.step({ watermark: 20 })).map(short), ["k ON_TIME0! v1 v2"]);
  t.deepEqual(await tested.step({ elements: [at(3)] }), []);
  t.is(tested.grouping.droppedLateCount, 1);
});

test("a trigger is asked for elements that came together, or for each of them", async (t) => {
  const count = { trigger: { $case: "elementCount" as const, value: { elementCount: 2 } } };
  const repeated = triggerBytes({ $case: "repeat", value: { subtrigger: count } });
  const nonempty = { trigger: repeated, onTimeBehavior: "FIRE_IF_NONEMPTY" } as const;
  const panes = async (overrides: Partial<WindowingSpec>): Promise<string[]> => {
    const tested = new GroupingUnderTest({ kind: "interval", windowing: { ...nonempty, ...overrides } });
    return (await tested.steps([{ elements: [1, 2, 3, 4, 5].map((value) => at(value)) }, TO_END])).map(short);
  };
  t.deepEqual(await panes({ asksTriggerFor: "ELEMENTS_TOGETHER" }), ["k EARLY0 v1 v2 v3 v4 v5"]);
  const each = { asksTriggerFor: "EACH_ELEMENT" } as const;
  t.deepEqual(await panes(each), ["k EARLY0 v1 v2", "k EARLY1 v3 v4", "k ON_TIME2! v5"]);
  const once = { ...each, trigger: triggerBytes(count.trigger) };
  t.deepEqual(await panes(once), ["k EARLY0! v1 v2"]);
});

test("what a count has not reached at a window's expiry is emitted, or lost and counted", async (t) => {
  const trigger = triggerBytes({ $case: "elementCount", value: { elementCount: 3 } });
  const panes = async (closingBehavior: WindowingSpec["closingBehavior"]): Promise<[string[], number]> => {
    const tested = new GroupingUnderTest({ kind: "interval", windowing: { trigger, closingBehavior } });
    const fired = await tested.steps([{ elements: [at(1), at(2), at(3), at(11), at(12)] }, TO_END]);
    t.is(tested.grouping.hold, MAX_TIMESTAMP);
    return [fired.map(short), tested.grouping.droppedClosedCount];
  };
  t.deepEqual(await panes("EMIT_IF_NONEMPTY"), [["k EARLY0! v1 v2 v3", "k ON_TIME0! v11 v12"], 0]);
  t.deepEqual(await panes("EMIT_NEVER"), [["k EARLY0! v1 v2 v3"], 2]);
});

test("processing time fires panes when it has come, and says when it has something to do", async (t) => {
  const trigger = triggerBytes({
    $case: "repeat",
    value: {
      subtrigger: {
        trigger: {
          $case: "afterProcessingTime",
          value: {
            timestampTransforms: [{ timestampTransform: { $case: "delay", value: { delayMillis: 5n } } }],
          },
        },
      },
    },
  });
  const tested = new GroupingUnderTest({ kind: "interval", windowing: { trigger }, startMs: 100 });
  await tested.step({ elements: [at(1), at(11, "other", "l")] });
  t.is(tested.grouping.nextProcessingTimeMs, 105);
  t.deepEqual(await tested.steps([{ processingTimeMs: 104 }, { elements: [at(2)] }]), []);
  t.deepEqual((await tested.step({ processingTimeMs: 105 })).map(short), ["k EARLY0 v1 v2", "l EARLY0 other"]);
  t.is(tested.grouping.nextProcessingTimeMs, undefined);
  await tested.step({ elements: [at(3)] });
  t.is(tested.grouping.nextProcessingTimeMs, 110);
  t.deepEqual((await tested.step(TO_END)).map(short), ["k ON_TIME1! v3", "l ON_TIME1! "]);
  t.is(tested.grouping.nextProcessingTimeMs, undefined);
});

test("custom windows are merged by whoever can, one question for the new windows of a key in a chunk", async (t) => {
  const questions: number[] = [];
  // All windows of a key become one, named after their number.
  const mergeWindows: MergeWindows = async (windows) => {
    questions.push(windows.length);
    return [{ merged: customWindow(99, `of ${windows.length}`), consumed: windows }];
  };
  const element = (key: string, name: string): Element => ({
    timestamp: 1,
    windows: [customWindow(99, name)],
    key,
    value: `${key}${name}`,
  });
  const tested = new GroupingUnderTest({
    kind: "custom",
    windowing: { merging: true, windowFnUrn: "beam:window_fn:pickled_python:v1" },
    init: { mergeWindows },
  });
  await tested.step({ elements: [element("a", "x"), element("b", "x"), element("a", "y"), element("a", "x")] });
  t.deepEqual(questions, [2]);
  tested.restore();
  await tested.step({ elements: [element("a", "z")] });
  t.deepEqual(questions, [2, 2]);
  t.deepEqual((await tested.step(TO_END)).map(short).toSorted(), ["a ON_TIME0! ax ay ax az", "b ON_TIME0! bx"]);
  t.is(tested.grouping.size, 0);
});

test("large groups, large values and many windows of an element come out whole", async (t) => {
  const windows = [interval(0, 10), interval(5, 15)];
  const value = (index: number): string => `${index}`.padStart(index % 50 === 0 ? 5000 : index % 40, "x");
  const elements = Array.from({ length: 1000 }, (_, index) => ({
    timestamp: 7,
    windows,
    key: `k${index % 2}`,
    value: value(index),
  }));
  const tested = new GroupingUnderTest({ kind: "interval" });
  for (let index = 0; index < elements.length; index += 100) {
    await tested.step({ elements: elements.slice(index, index + 100) });
    tested.restore();
  }
  const panes = await tested.step(TO_END);
  t.is(panes.length, 4);
  for (const { key, values } of panes)
    t.deepEqual(
      values,
      elements.filter((element) => element.key === key).map((element) => element.value),
    );
  tested.grouping.flush();
  t.true(tested.rowCount <= 1);
});

test("retracting panes are refused, and merging windows that nothing can merge", (t) => {
  const refused = (windowing: Partial<WindowingSpec>): string | undefined =>
    t.throws(() => new GroupingUnderTest({ kind: "interval", windowing }), { instanceOf: WeirError })?.message;
  t.regex(refused({ accumulationMode: "RETRACTING" }) ?? "", /retracts/);
  t.regex(refused({ merging: true, windowFnUrn: "urn:mine" }) ?? "", /urn:mine/);
});

test("of several processing times each is waited for", async (t) => {
  const after = (ms: number) => ({
    trigger: {
      $case: "afterProcessingTime" as const,
      value: {
        timestampTransforms: [{ timestampTransform: { $case: "delay" as const, value: { delayMillis: BigInt(ms) } } }],
      },
    },
  });
  const trigger = triggerBytes({ $case: "afterAll", value: { subtriggers: [after(8), after(9)] } });
  const tested = new GroupingUnderTest({ kind: "interval", windowing: { trigger } });
  t.deepEqual(await tested.steps([{ elements: [at(1)] }, { processingTimeMs: 8 }]), []);
  t.is(tested.grouping.nextProcessingTimeMs, 9);
  t.deepEqual((await tested.step({ processingTimeMs: 9 })).map(short), ["k EARLY0! v1"]);
});
