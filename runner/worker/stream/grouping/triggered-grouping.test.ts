import test from "ava";
import fc from "fast-check";
import { GLOBAL, interval, SESSIONS, sorted, type Element } from "../../../state/grouping/grouping-fixture.ts";
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
