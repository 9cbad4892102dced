import test from "ava";
import fc from "fast-check";
import { WeirError } from "../base/errors.ts";
import type { CoderSpec, CoderTable } from "../graph/execution-graph.ts";
import {
  decrementTimestamp,
  END_OF_GLOBAL_WINDOW,
  MAX_TIMESTAMP,
  MIN_TIMESTAMP,
  readExactMs,
  readTimestamp,
  type Timestamp,
  writeExactMs,
  writeTimestamp,
} from "../time/timestamp.ts";
import { decodeExactIntervalWindow, decodeIntervalWindow, encodeIntervalWindow } from "./interval-window.ts";
import { hashBytes, keyGroupOf, partitionOf } from "./key-group.ts";
import { KeyedLayout, newKeyedPositions } from "./key-slice.ts";
import { decodePaneInfo, encodePaneInfo, NO_FIRING_PANE, ON_TIME_AND_ONLY_PANE, type PaneInfo } from "./pane-info.ts";
import { encodeHeader, newHeader, WindowedValueLayout } from "./windowed-value.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function table(entries: Record<string, [string, ...string[]]>): CoderTable {
  const specs = Object.entries(entries).map(([id, [urn, ...components]]): [string, CoderSpec] => [
    id,
    { urn: `beam:coder:${urn}:v1`, payload: new Uint8Array(), components },
  ]);
  return Object.fromEntries(specs);
}

const CODERS = table({
  wv: ["windowed_value", "kv", "iw"],
  iw: ["interval_window"],
  kv: ["kv", "bytes", "varint"],
  bytes: ["bytes"],
  varint: ["varint"],
});

test("Beam's bounds keep their exact bytes through the number", (t) => {
  // From standard_coders.yaml and GlobalWindow.maxTimestamp.
  const exact: [Timestamp, bigint][] = [
    [MIN_TIMESTAMP, -9223372036854775n],
    [MAX_TIMESTAMP, 9223372036854775n],
    [END_OF_GLOBAL_WINDOW, 9223371950454775n],
  ];
  for (const [timestamp, ms] of exact) {
    const bytes = new Uint8Array(8);
    writeTimestamp(bytes, 0, timestamp);
    t.is(readExactMs(bytes, 0), ms);
    t.is(readTimestamp(bytes, 0), timestamp);
  }
  const bytes = new Uint8Array(8);
  writeTimestamp(bytes, 0, MIN_TIMESTAMP);
  t.is(hex(bytes), "7fdf3b645a1cac09");
  t.not(MAX_TIMESTAMP, END_OF_GLOBAL_WINDOW);
});

test("timestamps below 2^53 round trip, and their bytes sort as they do", (t) => {
  const ms = fc.maxSafeInteger();
  fc.assert(
    fc.property(ms, ms, (left, right) => {
      const a = new Uint8Array(9);
      const b = new Uint8Array(9);
      writeTimestamp(a, 1, left as Timestamp);
      writeTimestamp(b, 1, right as Timestamp);
      return (
        readTimestamp(a, 1) === left &&
        readExactMs(a, 1) === BigInt(left) &&
        Math.sign(Buffer.compare(a, b)) === Math.sign(left - right)
      );
    }),
  );
  t.pass();
});

test("exact milliseconds round trip and decrement by one over the whole range", (t) => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n) + 1n, max: 2n ** 63n - 1n }), (ms) => {
      const bytes = new Uint8Array(8);
      writeExactMs(bytes, 0, ms);
      const same = readExactMs(bytes, 0) === ms;
      decrementTimestamp(bytes, 0);
      return same && readExactMs(bytes, 0) === ms - 1n;
    }),
  );
  t.pass();
});

test("interval windows have Beam's golden bytes, beyond 2^53 too", (t) => {
  // {end: 1454293425000, span: 3600000} and {end: -9223372036854410, span: 365} of standard_coders.yaml.
  const usual = Buffer.from("800001529aa49b6880dddb01", "hex");
  const extreme = Buffer.from("7fdf3b645a1cad76ed02", "hex");
  t.deepEqual(decodeIntervalWindow(usual, 0), { start: 1454293425000 - 3600000, end: 1454293425000 });
  t.deepEqual(decodeExactIntervalWindow(extreme, 0), { start: -9223372036854775n, end: -9223372036854410n });
  t.is(hex(encodeIntervalWindow(decodeIntervalWindow(usual, 0))), hex(usual));
  t.is(hex(encodeIntervalWindow(decodeExactIntervalWindow(extreme, 0))), hex(extreme));
  t.throws(() => decodeIntervalWindow(usual.subarray(0, 9), 0), { instanceOf: WeirError });
});

test("pane infos round trip in all three forms", (t) => {
  const one = (pane: PaneInfo): string => hex(encodePaneInfo(pane));
  const base = { isFirst: true, isLast: true, index: 0, nonSpeculativeIndex: 0 };
  t.is(one({ ...base, timing: "UNKNOWN" }), hex(Uint8Array.of(NO_FIRING_PANE)));
  t.is(one({ ...base, timing: "ON_TIME" }), hex(Uint8Array.of(ON_TIME_AND_ONLY_PANE)));
  // PaneInfo(false, true, ON_TIME, 30, 40) of standard_coders.yaml.
  t.is(one({ isFirst: false, isLast: true, timing: "ON_TIME", index: 30, nonSpeculativeIndex: 40 }), "261e28");
  const panes = fc.record({
    isFirst: fc.boolean(),
    isLast: fc.boolean(),
    timing: fc.constantFrom("EARLY" as const, "ON_TIME" as const, "LATE" as const),
    index: fc.integer({ min: 1, max: 1e9 }),
    nonSpeculativeIndex: fc.integer({ min: 0, max: 1e9 }),
  });
  fc.assert(
    fc.property(panes, (given) => {
      const pane = given.timing === "EARLY" ? { ...given, nonSpeculativeIndex: -1 } : given;
      t.deepEqual(decodePaneInfo(encodePaneInfo(pane), 0), pane);
    }),
  );
});

test("a windowed KV is read in place: windows, pane, key and value", (t) => {
  const windows = [encodeIntervalWindow({ start: 0, end: 10 }), encodeIntervalWindow({ start: 5, end: 500 })];
  const pane = encodePaneInfo({ isFirst: false, isLast: false, timing: "LATE", index: 300, nonSpeculativeIndex: 2 });
  const header = encodeHeader(7 as Timestamp, windows, pane);
  const element = Buffer.concat([header, Buffer.from([3, 97, 98, 99]), Buffer.from([0x80, 0x01])]);
  const bytes = Buffer.concat([element, element]);
  const layout = new KeyedLayout(CODERS, "wv");
  const positions = newKeyedPositions();
  t.is(layout.read(bytes, element.length, positions), bytes.length);
  const { header: read, keyEnd, end } = positions;
  t.is(readTimestamp(bytes, read.timestampStart), 7 as Timestamp);
  t.is(read.windowCount, 2);
  t.is(hex(bytes.subarray(read.windowsStart, read.windowsEnd)), windows.map(hex).join(""));
  t.is(hex(bytes.subarray(read.paneStart, read.valueStart)), hex(pane));
  t.is(hex(bytes.subarray(read.valueStart, keyEnd)), "03616263");
  t.is(hex(bytes.subarray(keyEnd, end)), "8001");

  const windowed = new WindowedValueLayout(CODERS, "wv");
  t.is(windowed.countElements(bytes), 2);
  t.deepEqual([...windowed.elementOffsets(bytes)], [0, element.length, bytes.length]);
  t.deepEqual([...windowed.elementOffsets(new Uint8Array())], [0]);
  t.throws(() => windowed.countElements(bytes.subarray(1)), { instanceOf: WeirError });
  t.throws(() => windowed.readHeader(bytes.subarray(0, 20), 0, newHeader()), { instanceOf: WeirError });
  t.throws(() => new WindowedValueLayout(CODERS, "kv"), { message: /windowed values/ });
  t.throws(() => new KeyedLayout(table({ wv: ["windowed_value", "b", "b"], b: ["bytes"] }), "wv"), { message: /KV/ });
});

test("the key hash is murmur3, which snapshots rely on, and key groups fill their subtasks' ranges", (t) => {
  // Reference values of MurmurHash3_x86_32.
  const hashOf = (text: string, seed = 0): number => {
    const bytes = Buffer.from(`..${text}..`);
    return hashBytes(bytes, 2, bytes.length - 2, seed);
  };
  t.is(hashOf(""), 0);
  t.is(hashOf("", 1), 0x514e28b7);
  t.is(hashOf("test"), 0xba6bd213);
  t.is(hashOf("Hello, world!"), 0xc0363e43);
  t.is(hashOf("The quick brown fox jumps over the lazy dog"), 0x2e4ff723);
  for (const [maxParallelism, parallelism] of [
    [128, 3],
    [128, 128],
    [7, 2],
    [1, 1],
  ] as const) {
    const owners = Array.from({ length: maxParallelism }, (_, hash) =>
      partitionOf(keyGroupOf(hash, maxParallelism), maxParallelism, parallelism),
    );
    t.deepEqual(
      [...new Set(owners)],
      Array.from({ length: parallelism }, (_, index) => index),
    );
    t.deepEqual(
      owners,
      [...owners].sort((left, right) => left - right),
    );
  }
});
