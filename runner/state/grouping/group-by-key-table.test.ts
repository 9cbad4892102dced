import { mkdtemp, readdir } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { present } from "../../base/assert.ts";
import { WeirError } from "../../base/errors.ts";
import { decodeIntervalWindow, encodeIntervalWindow } from "../../coders/interval-window.ts";
import { END_OF_GLOBAL_WINDOW, MIN_TIMESTAMP } from "../../time/timestamp.ts";
import { mergeIntervals } from "../../time/window-merging.ts";
import {
  CODERS,
  windowing,
  SESSIONS,
  open,
  chunksOf,
  readPages,
  decode,
  run,
  naive,
  byName,
  sorted,
  GLOBAL,
  interval,
  coder,
  spill,
  type Element,
  type Grouped,
  removeSpill,
  customWindow,
} from "./grouping-fixture.ts";

test.after.always(removeSpill);

const keys = fc.oneof(fc.constantFrom("", "a", "b", "hot"), fc.string({ maxLength: 6 }));
const values = fc.oneof(fc.string({ maxLength: 5 }), fc.string({ minLength: 100, maxLength: 400 }));
const limits = fc.record({
  memoryBudgetBytes: fc.constantFrom(600, 4096, 1 << 20),
  stateBackedIterableBytes: fc.constantFrom(64, 2048, 1 << 20),
  chunkBytes: fc.constantFrom(1, 256, 1 << 16),
  stateBacked: fc.boolean(),
});

test("groups equal those of a map: global window, any budget, in memory and spilled", async (t) => {
  const element = fc.record({ timestamp: fc.constant(0), windows: fc.constant(GLOBAL), key: keys, value: values });
  await fc.assert(
    fc.asyncProperty(fc.array(element, { maxLength: 80 }), limits, async (elements, init) => {
      const groups = await run("global", elements, init);
      t.deepEqual(sorted(byName(groups)), sorted(naive(elements)));
      for (const { exactTimestamp, timestamp, pane, fromState } of groups) {
        t.is(exactTimestamp, 9223371950454775n);
        t.is(timestamp, END_OF_GLOBAL_WINDOW);
        t.is(pane, 7);
        t.true(init.stateBacked || !fromState);
      }
    }),
    { numRuns: 60 },
  );
});

test("elements in several interval windows are grouped in each; timestamps follow the combiner", async (t) => {
  const windows = fc.uniqueArray(fc.constantFrom(interval(0, 10), interval(5, 15), interval(-20, 100000)), {
    maxLength: 3,
  });
  const element = fc.record({
    timestamp: fc.oneof(fc.integer({ min: -100, max: 100 }), fc.constant<number>(MIN_TIMESTAMP)),
    windows,
    key: keys,
    value: values,
  });
  const combiner = fc.constantFrom("END_OF_WINDOW" as const, "LATEST_IN_PANE" as const, "EARLIEST_IN_PANE" as const);
  await fc.assert(
    fc.asyncProperty(
      fc.array(element, { maxLength: 60 }),
      limits,
      combiner,
      async (elements, init, timestampCombiner) => {
        const groups = await run("interval", elements, {
          ...init,
          windowing: windowing("interval", { timestampCombiner }),
        });
        t.deepEqual(sorted(byName(groups)), sorted(naive(elements)));
        for (const { timestamp, key, window, windowBytes } of groups) {
          const inputs = elements
            .filter(
              (given) =>
                given.key === key && given.windows.some((each) => Buffer.from(each).toString("hex") === window),
            )
            .map((given) => given.timestamp);
          const expected = {
            END_OF_WINDOW: decodeIntervalWindow(windowBytes, 0).end - 1,
            LATEST_IN_PANE: Math.max(...inputs),
            EARLIEST_IN_PANE: Math.min(...inputs),
          }[timestampCombiner];
          t.is(Number(timestamp), expected);
        }
      },
    ),
    { numRuns: 60 },
  );
});

test("sessions merge key by key, in memory and spilled", async (t) => {
  const element = fc
    .record({
      timestamp: fc.integer({ min: 0, max: 200 }),
      key: keys,
      value: values,
      gap: fc.integer({ min: 1, max: 12 }),
    })
    .map(({ timestamp, key, value, gap }) => ({
      timestamp,
      key,
      value,
      windows: [interval(timestamp, timestamp + gap)],
    }));
  await fc.assert(
    fc.asyncProperty(fc.array(element, { maxLength: 60 }), limits, async (elements, init) => {
      const timestampCombiner = "LATEST_IN_PANE";
      const sessions = windowing("interval", { ...SESSIONS, timestampCombiner });
      const groups = await run("interval", elements, { ...init, windowing: sessions });
      const expected = new Map<string, string[]>();
      for (const key of new Set(elements.map((each) => each.key))) {
        const mine = elements.filter((each) => each.key === key);
        const windows = mine.map((each) => decodeIntervalWindow(each.windows[0] as Uint8Array, 0));
        const { merged, targets } = mergeIntervals(
          windows.map(({ start }) => start),
          windows.map(({ end }) => end),
        );
        mine.forEach((each, index) => {
          const window = encodeIntervalWindow(present(merged[targets[index] as number], "the session"));
          const name = `${Buffer.from(window).toString("hex")} ${key}`;
          expected.set(name, [...(expected.get(name) ?? []), each.value]);
        });
      }
      t.deepEqual(sorted(byName(groups)), sorted(expected));
    }),
    { numRuns: 60 },
  );
});

test("sessions at Beam's minimum timestamp keep exact bounds", async (t) => {
  // Elements that were never given a timestamp: bounds are odd numbers beyond 2^53.
  const start = -9223372036854775n;
  const window = encodeIntervalWindow({ start, end: start + 11n });
  const later = encodeIntervalWindow({ start: start + 5n, end: start + 16n });
  const apart = encodeIntervalWindow({ start: start + 16n, end: start + 27n });
  const elements = [window, later, apart].map((each, index) => ({
    timestamp: MIN_TIMESTAMP,
    windows: [each],
    key: "k",
    value: String(index),
  }));
  for (const memoryBudgetBytes of [1 << 20, 50]) {
    const groups = await run("interval", elements, { memoryBudgetBytes, windowing: windowing("interval", SESSIONS) });
    groups.sort((left, right) => Number(left.exactTimestamp - right.exactTimestamp));
    t.deepEqual(
      groups.map(({ exactTimestamp, values: texts }) => [exactTimestamp, texts]),
      [
        [start + 15n, ["0", "1"]],
        [start + 26n, ["2"]],
      ],
    );
  }
});

/** custom_window: maximum timestamp, then the window; its last character is its merge class here. */

test("custom merging asks for each key's distinct windows, once, and keeps those that nobody consumed", async (t) => {
  const merged = customWindow(99, "merged");
  const elements = Array.from({ length: 200 }, (_, index) => ({
    timestamp: 0,
    windows: [customWindow(10 + (index % 3), "abc".charAt(index % 3))],
    key: index % 2 === 0 ? "even" : "odd",
    value: `${index}`.padStart(40, "."),
  }));
  const loner = { timestamp: 0, windows: [customWindow(5, "a")], key: "loner", value: "x" };
  for (const memoryBudgetBytes of [1 << 20, 2000]) {
    const asked: number[] = [];
    const groups = await run("custom", [...elements, loner], {
      memoryBudgetBytes,
      windowing: windowing("custom", { merging: true, windowFnUrn: "my:windows" }),
      mergeWindows: (windows) => {
        asked.push(windows.length);
        const consumed = windows.filter((window) => Buffer.from(window).subarray(-1).toString() !== "c");
        return Promise.resolve([{ merged, consumed }]);
      },
    });
    t.deepEqual(asked, [3, 3]);
    const expected = naive(
      [...elements, loner].map((each, index) => ({
        ...each,
        windows: [index % 3 === 2 || each === loner ? (each.windows[0] as Uint8Array) : merged],
      })),
    );
    t.deepEqual(sorted(byName(groups)), sorted(expected));
    const timestamps = groups.filter(({ key }) => key === "even").map(({ timestamp }) => Number(timestamp));
    t.deepEqual(
      timestamps.sort((left, right) => left - right),
      [12, 99],
    );
  }
});

test("a merging WindowFn that nothing can merge is refused by its URN; so are windows without a maximum timestamp", async (t) => {
  const error = await t.throwsAsync(
    open("custom", { windowing: windowing("custom", { merging: true, windowFnUrn: "my:windows" }) }),
    { instanceOf: WeirError },
  );
  t.regex(error.message, /my:windows/);
  const coders = { ...CODERS, "in-global": coder("windowed_value", "kv", "bytes") };
  await t.throwsAsync(async () => open("global", { coders }), { message: /maximum timestamp/ });
});

test("a key larger than memory beside many others is read through state, page by page, again if need be", async (t) => {
  const giant = Array.from({ length: 6000 }, (_, index) => `${index}`.padStart(100, "g"));
  const elements = giant.flatMap((value, index): Element[] => [
    { timestamp: 0, windows: GLOBAL, key: "giant", value },
    { timestamp: 0, windows: GLOBAL, key: `small-${index % 500}`, value: `s${index}` },
  ]);
  const spillDirectory = await mkdtemp(join(spill, "own-"));
  const table = await open("global", {
    memoryBudgetBytes: 64 << 10,
    stateBackedIterableBytes: 16 << 10,
    spillDirectory,
  });
  for (const chunk of chunksOf(elements, 100)) await table.add(chunk);
  t.deepEqual(await readdir(spillDirectory), [], "spill files have no name");
  const groups: Grouped[] = [];
  for await (const chunk of table.groups()) groups.push(...(await decode(table, "global", chunk)));
  t.deepEqual(sorted(byName(groups)), sorted(naive(elements)));
  const large = groups.filter(({ fromState }) => fromState);
  t.deepEqual(
    large.map(({ key }) => key),
    ["giant"],
  );
  const token = Uint8Array.of(0, 0, 0, 0);
  t.deepEqual(await readPages(table, token, 1 << 20), giant);
  const first = await table.readLargeGroup(token, new Uint8Array(), 1);
  t.true(first.data.length > 0 && first.data.length <= 256 << 10, "a page is bounded");
  await t.throwsAsync(table.readLargeGroup(Uint8Array.of(9, 9, 9, 9), new Uint8Array(), 1), { message: /token/ });
  await table.close();
  await table.close();
  await t.throwsAsync(table.readLargeGroup(token, new Uint8Array(), 1), { instanceOf: WeirError });
});
