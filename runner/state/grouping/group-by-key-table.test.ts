import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import type { Chunk } from "../../base/chunk.ts";
import { present } from "../../base/assert.ts";
import { WeirError } from "../../base/errors.ts";
import { readVarint, varintEnd, varintLength, writeVarint } from "../../coders/byte-reader.ts";
import { decodeIntervalWindow, encodeIntervalWindow } from "../../coders/interval-window.ts";
import { encodeHeader, newHeader, WindowedValueLayout } from "../../coders/windowed-value.ts";
import type { CoderSpec, CoderTable, WindowingSpec } from "../../graph/execution-graph.ts";
import {
  END_OF_GLOBAL_WINDOW,
  MIN_TIMESTAMP,
  readExactMs,
  readTimestamp,
  type Timestamp,
} from "../../time/timestamp.ts";
import { mergeIntervals } from "../../time/window-merging.ts";
import { GroupByKeyTable, type GroupByKeyTableInit } from "./group-by-key-table.ts";

const spill = await mkdtemp(join(tmpdir(), "weir-grouping-"));
test.after.always(() => rm(spill, { recursive: true, force: true }));

function coder(urn: string, ...components: string[]): CoderSpec {
  return { urn: `beam:coder:${urn}:v1`, payload: new Uint8Array(), components };
}

const CODERS: CoderTable = {
  bytes: coder("bytes"),
  kv: coder("kv", "bytes", "bytes"),
  values: coder("state_backed_iterable", "bytes"),
  grouped: coder("kv", "bytes", "values"),
  global: coder("global_window"),
  interval: coder("interval_window"),
  custom: coder("custom_window", "bytes"),
  ...Object.fromEntries(
    ["global", "interval", "custom"].flatMap((window) => [
      [`in-${window}`, coder("windowed_value", "kv", window)],
      [`out-${window}`, coder("windowed_value", "grouped", window)],
    ]),
  ),
};

type WindowKind = "global" | "interval" | "custom";

function windowing(window: WindowKind, overrides: Partial<WindowingSpec> = {}): WindowingSpec {
  return {
    windowFnUrn: "beam:window_fn:fixed_windows:v1",
    windowFnPayload: new Uint8Array(),
    windowCoderId: window,
    merging: false,
    timestampCombiner: "END_OF_WINDOW",
    trigger: new Uint8Array(),
    accumulationMode: "DISCARDING",
    allowedLatenessMs: 0,
    closingBehavior: "EMIT_IF_NONEMPTY",
    onTimeBehavior: "FIRE_ALWAYS",
    ...overrides,
  };
}

const SESSIONS = { windowFnUrn: "beam:window_fn:session_windows:v1", merging: true } as const;

function open(window: WindowKind, overrides: Partial<GroupByKeyTableInit> = {}): Promise<GroupByKeyTable> {
  return GroupByKeyTable.open({
    coders: CODERS,
    inputCoderId: `in-${window}`,
    outputCoderId: `out-${window}`,
    windowing: windowing(window),
    stateBacked: true,
    memoryBudgetBytes: 1 << 20,
    stateBackedIterableBytes: 1 << 16,
    chunkBytes: 4096,
    spillDirectory: spill,
    ...overrides,
  });
}

interface Element {
  readonly timestamp: number;
  readonly windows: readonly Uint8Array[];
  readonly key: string;
  readonly value: string;
}

function lengthPrefixed(text: string): Buffer {
  const content = Buffer.from(text);
  const prefix = Buffer.alloc(varintLength(content.length));
  writeVarint(prefix, 0, content.length);
  return Buffer.concat([prefix, content]);
}

function encode({ timestamp, windows, key, value }: Element): Buffer {
  return Buffer.concat([encodeHeader(timestamp as Timestamp, windows), lengthPrefixed(key), lengthPrefixed(value)]);
}

/** Several elements to a chunk, at an odd place in its memory as received messages have them. */
function chunksOf(elements: readonly Element[], perChunk = 7): Chunk[] {
  const chunks: Chunk[] = [];
  for (let index = 0; index < elements.length; index += perChunk) {
    const part = elements.slice(index, index + perChunk);
    const data = Buffer.concat([Buffer.alloc(3), ...part.map(encode)]).subarray(3);
    chunks.push({ data, elementCount: part.length });
  }
  return chunks;
}

interface Grouped {
  readonly timestamp: Timestamp;
  readonly exactTimestamp: bigint;
  readonly window: string;
  readonly windowBytes: Uint8Array;
  readonly pane: number;
  readonly key: string;
  readonly values: string[];
  readonly fromState: boolean;
}

function readText(bytes: Uint8Array, position: number): { text: string; end: number } {
  const start = varintEnd(bytes, position, "test");
  const end = start + readVarint(bytes, position, "test");
  return { text: Buffer.from(bytes.subarray(start, end)).toString(), end };
}

function readTexts(bytes: Uint8Array): string[] {
  const texts: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const { text, end } = readText(bytes, at);
    texts.push(text);
    at = end;
  }
  return texts;
}

async function readPages(table: GroupByKeyTable, token: Uint8Array, pageBytes: number): Promise<string[]> {
  const values: string[] = [];
  let continuation: Uint8Array = new Uint8Array();
  do {
    const page = await table.readLargeGroup(token, continuation, pageBytes);
    values.push(...readTexts(page.data));
    ({ continuation } = page);
  } while (continuation.length > 0);
  return values;
}

async function decode(table: GroupByKeyTable, window: WindowKind, chunk: Chunk): Promise<Grouped[]> {
  const layout = new WindowedValueLayout(CODERS, `out-${window}`);
  const header = newHeader();
  const groups: Grouped[] = [];
  const { data } = chunk;
  for (let at = 0; at < data.length; at = layout.skip(data, at)) {
    layout.readHeader(data, at, header);
    const windowBytes = data.slice(header.windowsStart, header.windowsEnd);
    const { text: key, end: keyEnd } = readText(data, header.valueStart);
    const end = layout.skip(data, at);
    const count = Buffer.from(data.subarray(keyEnd, keyEnd + 4)).readInt32BE();
    const token = data.subarray(keyEnd + 4 + 10 + 1, end);
    const values = count === -1 ? await readPages(table, token, 1000) : readTexts(data.subarray(keyEnd + 4, end));
    if (count !== -1 && count !== values.length) throw new Error(`count ${count}, but ${values.length} values`);
    groups.push({
      timestamp: readTimestamp(data, at),
      exactTimestamp: readExactMs(data, at),
      window: Buffer.from(windowBytes).toString("hex"),
      windowBytes,
      pane: data[header.paneStart] as number,
      key,
      values,
      fromState: count === -1,
    });
    if (header.windowCount !== 1) throw new Error("a group is in one window");
  }
  if (groups.length !== chunk.elementCount) throw new Error("elementCount is wrong");
  return groups;
}

async function run(
  window: WindowKind,
  elements: readonly Element[],
  init: Partial<GroupByKeyTableInit> = {},
  perChunk = 7,
): Promise<Grouped[]> {
  const table = await open(window, init);
  try {
    for (const chunk of chunksOf(elements, perChunk)) await table.add(chunk);
    const groups: Grouped[] = [];
    for await (const chunk of table.groups()) groups.push(...(await decode(table, window, chunk)));
    return groups;
  } finally {
    await table.close();
  }
}

/** `${window} ${key}` → values, in order. */
function naive(elements: readonly Element[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { windows, key, value } of elements)
    for (const window of windows) {
      const name = `${Buffer.from(window).toString("hex")} ${key}`;
      groups.set(name, [...(groups.get(name) ?? []), value]);
    }
  return groups;
}

function byName(groups: readonly Grouped[]): Map<string, string[]> {
  const named = new Map(groups.map(({ window, key, values }): [string, string[]] => [`${window} ${key}`, values]));
  if (named.size !== groups.length) throw new Error("a group was emitted twice");
  return named;
}

function sorted(groups: Map<string, string[]>): [string, string[]][] {
  return [...groups].sort(([left], [right]) => (left < right ? -1 : 1));
}

const GLOBAL = [new Uint8Array()];
const interval = (start: number, end: number): Uint8Array => encodeIntervalWindow({ start, end });

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
        t.is(exactTimestamp, 9223371950454775n - 86_400_000n);
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
function customWindow(maxTimestamp: number, name: string): Uint8Array {
  return Buffer.concat([encodeHeader(maxTimestamp as Timestamp, []).subarray(0, 8), lengthPrefixed(name)]);
}

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

test("thousands of keys are found again, in memory and where partitions are distributed twice", async (t) => {
  const elements = Array.from({ length: 20_000 }, (_, index) => ({
    timestamp: 0,
    windows: GLOBAL,
    key: `key-${(index * 7919) % 9000}`,
    value: `${index}`,
  }));
  const expected = sorted(naive(elements));
  for (const memoryBudgetBytes of [64 << 20, 4 << 10]) {
    const groups = await run("global", elements, { memoryBudgetBytes, chunkBytes: 1 << 16 }, 1000);
    t.deepEqual(sorted(byName(groups)), expected);
  }
});

test("values larger than any block or page survive the disk, whole or through state", async (t) => {
  const elements = Array.from({ length: 4 }, (_, index) => ({
    timestamp: 0,
    windows: GLOBAL,
    key: `key-${index % 2}`,
    value: String(index).repeat(1_500_000),
  }));
  for (const stateBacked of [true, false]) {
    const groups = await run("global", elements, { memoryBudgetBytes: 1 << 20, stateBacked });
    t.deepEqual(
      groups.map(({ fromState }) => fromState),
      [stateBacked, stateBacked],
    );
    t.true(new Map(sorted(byName(groups))).size === 2);
    for (const { key, values: texts } of groups)
      t.true(
        texts.join() ===
          elements
            .filter((each) => each.key === key)
            .map(({ value }) => value)
            .join(),
      );
  }
});

test("a WindowFn that merges windows that it was not asked about is refused", async (t) => {
  const elements = [1, 2].map((index) => ({
    timestamp: 0,
    windows: [customWindow(index, "w")],
    key: "k",
    value: "v",
  }));
  const mergeWindows = (): Promise<{ merged: Uint8Array; consumed: Uint8Array[] }[]> =>
    Promise.resolve([{ merged: customWindow(9, "m"), consumed: [customWindow(3, "other")] }]);
  const custom = windowing("custom", { merging: true, windowFnUrn: "my:windows" });
  await t.throwsAsync(run("custom", elements, { windowing: custom, mergeWindows }), { message: /WindowFn merged/ });
});

test("chunks are about as large as asked for, and small output takes a small one", async (t) => {
  const elements = Array.from({ length: 1000 }, (_, index) => ({
    timestamp: 0,
    windows: GLOBAL,
    key: `${index}`,
    value: "v".repeat(100),
  }));
  const table = await open("global", { chunkBytes: 10_000 });
  for (const chunk of chunksOf(elements, 50)) await table.add(chunk);
  const sizes: number[] = [];
  for await (const chunk of table.groups()) {
    sizes.push(chunk.data.length);
    t.true(chunk.data.buffer.byteLength <= 10_000);
  }
  t.true(sizes.slice(0, -1).every((size) => size > 9_000));
  await table.close();
  const small = await open("global", { chunkBytes: 1 << 20 });
  for (const chunk of chunksOf(elements.slice(0, 3))) await small.add(chunk);
  for await (const chunk of small.groups()) t.true(chunk.data.buffer.byteLength < 1000);
  await small.close();
});

test("malformed input and a spill directory that is none are errors for people", async (t) => {
  const table = await open("global");
  const bytes = encode({ timestamp: 0, windows: GLOBAL, key: "k", value: "v" });
  const error = t.throws(() => table.add({ data: bytes.subarray(0, bytes.length - 1), elementCount: 1 }), {
    instanceOf: WeirError,
  });
  t.is(error.code, "DATA_LOSS");
  await table.close();
  const nowhere = join(spill, "file", "below");
  const { writeFile } = await import("node:fs/promises");
  await writeFile(join(spill, "file"), "");
  const spilling = await open("global", { memoryBudgetBytes: 1, spillDirectory: nowhere });
  await t.throwsAsync(async () => spilling.add({ data: bytes, elementCount: 1 }), { message: new RegExp(nowhere) });
  await spilling.close();
  await rm(join(spill, "file"));
});
