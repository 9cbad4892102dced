/**
 * Merging against payloads that apache_beam 2.77's own encoders made (hex), and the laws that a merge must obey.
 */
import test from "ava";
import fc from "fast-check";
import { MonitoringInfo as GeneratedMonitoringInfo } from "../../proto/gen/metrics.ts";
import { boundedTriePaths, decodeBoundedTrie } from "./bounded-trie.ts";
import { encodeMonitoringInfo } from "./monitoring-info.ts";
import { decodeCounter, MonitoringInfoSet, type MonitoringInfo } from "./monitoring-infos.ts";

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));
const toHex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString("hex");

function info(kind: string, payload: Uint8Array | string, more: Partial<MonitoringInfo> = {}): MonitoringInfo {
  return {
    urn: `beam:metric:user:${kind}:v1`,
    type: `beam:metrics:${kind}:v1`,
    payload: typeof payload === "string" ? hex(payload) : payload,
    labels: { PTRANSFORM: "t", NAMESPACE: "n", NAME: "m" },
    startTime: undefined,
    ...more,
  };
}

function merged(infos: readonly MonitoringInfo[]): MonitoringInfoSet {
  const set = new MonitoringInfoSet();
  for (const one of infos) set.merge(one);
  return set;
}

/** Of one kind, with the same labels. */
function mergedPayload(kind: string, ...payloads: string[]): string {
  const [only, ...rest] = merged(payloads.map((payload) => info(kind, payload))).values();
  if (only === undefined || rest.length > 0) throw new Error("expected one info");
  return toHex(only.payload);
}

const int64Hex = (value: bigint): string => {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Buffer.from([...bytes, Number(rest)]).toString("hex");
};

test("what Python encoded is unchanged when there is nothing to merge it with", (t) => {
  const golden: [string, string][] = [
    ["sum_int64", "00"],
    ["sum_int64", "ffffffffffffffffff01"],
    ["sum_int64", "80808080808080808001"],
    ["sum_double", "bfd0000000000000"],
    ["distribution_int64", "030afeffffffffffffffff0107"],
    ["distribution_int64", "0000ffffffffffffffff7f80808080808080808001"],
    ["latest_int64", "fdd095ffbc312a"],
    ["set_string", "00000004000161016202c3a9"],
    ["set_string", "00000000"],
    ["top_n_int64", "000000030907ffffffffffffffffff01"],
    ["top_n_double", "000000013ff8000000000000"],
    ["bounded_trie", "08641a0367733a1a01621a0178"],
    ["bounded_trie", "0864122712150a0367733a120e120c0a0162120712050a01791200120e0a0373333a120712050a017a1200"],
    ["bounded_trie", "0864"],
    ["histogram_int64", "080412160a1408051100000000000024401900000000000000001a050102000001"],
  ];
  for (const [kind, payload] of golden) t.is(mergedPayload(kind, payload), payload, `${kind} ${payload}`);
});

test("counters add up exactly beyond 2^53, negative ones too", (t) => {
  // 2^53 + 1, 300, -1
  t.is(mergedPayload("sum_int64", "8180808080808010", "ac02", "ffffffffffffffffff01"), int64Hex(2n ** 53n + 300n));
  // 1.5 - 0.25
  t.is(mergedPayload("sum_double", "3ff8000000000000", "bfd0000000000000"), "3ff4000000000000");
});

test("distributions merge as in Python; an empty one, with or without its fields, changes nothing", (t) => {
  const small = "030afeffffffffffffffff0107";
  const large = "01808080808080808010808080808080808010808080808080808010";
  const both = "048a8080808080808010feffffffffffffffff01808080808080808010";
  t.is(mergedPayload("distribution_int64", small, large), both);
  t.is(mergedPayload("distribution_int64", small, "00", large), both);
  t.is(mergedPayload("distribution_int64", "0000000000", small), small);
  const doubles = (count: string, ...values: number[]): string =>
    count +
    values
      .map((value) =>
        Buffer.from(new Float64Array([value]).buffer)
          .reverse()
          .toString("hex"),
      )
      .join("");
  t.is(
    mergedPayload("distribution_double", doubles("01", 1.5, 1.5, 1.5), doubles("02", -1, -3, 2), "00"),
    doubles("03", 0.5, -3, 2),
  );
});

test("of gauges the latest timestamp wins, whichever comes first", (t) => {
  const older = "fdd095ffbc312a";
  const newer = "e8d795ffbc31f9ffffffffffffffff01";
  t.is(mergedPayload("latest_int64", older, newer), newer);
  t.is(mergedPayload("latest_int64", newer, older), newer);
  t.is(mergedPayload("latest_double", "013ff8000000000000", "02bfd0000000000000"), "02bfd0000000000000");
});

test("string sets are united, also from an iterable of unknown length", (t) => {
  // ["é", "", "a"], then a generator of ["b", "a"]
  t.is(mergedPayload("set_string", "0000000302c3a9000161", "ffffffff020162016100"), "00000004000161016202c3a9");
});

test("a string set stops growing at a million characters", (t) => {
  const long = (letter: string): string => {
    const text = Buffer.from(letter.repeat(600_000));
    return Buffer.concat([hex("00000001"), hex(int64Hex(BigInt(text.length))), text]).toString("hex");
  };
  const full = mergedPayload("set_string", long("a"), long("b"));
  t.is(mergedPayload("set_string", long("a"), long("b"), long("c"), "0000000201620161"), full);
});

test("top and bottom lists keep the longest length seen", (t) => {
  t.is(mergedPayload("top_n_int64", "000000020907", "0000000108"), "000000020908");
  t.is(mergedPayload("bottom_n_int64", "0000000108", "000000020709"), "000000020708");
  // A value cut off by a shorter list is there again when n turns out larger.
  t.is(mergedPayload("top_n_int64", "0000000105", "0000000104", "000000020302"), "000000020504");
});

test("bounded tries merge as in Python, and keep their bound", (t) => {
  t.is(
    mergedPayload(
      "bounded_trie",
      "08641a0367733a1a01621a0178",
      "0864122712150a0367733a120e120c0a0162120712050a01791200120e0a0373333a120712050a017a1200",
    ),
    "0864122e121c0a0367733a121512130a0162120e12050a0178120012050a01791200120e0a0373333a120712050a017a1200",
  );
  // {p/a, p/b, q} and {p/c, q, r/s} with a bound of 3. Python's bytes, but for its bound that falls back to 100.
  const truncated = mergedPayload(
    "bounded_trie",
    "0803121c12130a0170120e12050a0161120012050a0162120012050a01711200",
    "08031223120c0a0170120712050a0163120012050a01711200120c0a0172120712050a01731200",
  );
  t.is(truncated, "0803121e12070a01701202080112050a01711200120c0a0172120712050a01731200");
  t.deepEqual(boundedTriePaths(decodeBoundedTrie(hex(truncated))), ["p/*", "q/", "r/s/"]);
  t.is(mergedPayload("bounded_trie", "0864", truncated), truncated);
});

test("histograms over the same buckets add up; one over others is left out and counted", (t) => {
  const first = "080412160a1408051100000000000024401900000000000000001a050102000001";
  const second = "080212160a1408051100000000000024401900000000000000001a050100000100";
  const sum = "080612160a1408051100000000000024401900000000000000001a050202000101";
  t.is(mergedPayload("histogram_int64", first, second), sum);
  const other = "080112160a1408061100000000000024401900000000000000001a06010000000000";
  const set = merged([first, other, second].map((payload) => info("histogram_int64", payload)));
  t.is(toHex(set.values()[0]?.payload), sum);
  t.deepEqual(set.dropped, { malformed: 1, overLimit: 0 });
});

test("progress and unknown types: the last one wins, and later changes to its buffer do not show", (t) => {
  t.is(mergedPayload("progress", "00000000", "000000013ff8000000000000"), "000000013ff8000000000000");
  const payload = hex("0102");
  const set = merged([info("from_the_future", payload)]);
  payload.fill(0xff);
  t.is(toHex(set.values()[0]?.payload), "0102");
});

test("infos are told apart by urn, type and labels, whatever the labels' order", (t) => {
  const one = info("sum_int64", "01");
  const set = merged([
    one,
    { ...one, labels: { NAME: "m", PTRANSFORM: "t", NAMESPACE: "n" } },
    { ...one, urn: "beam:metric:element_count:v1" },
    { ...one, type: "beam:metrics:from_the_future:v1" },
    { ...one, labels: { a: "b,c", "a,b": "c" } },
    { ...one, labels: { "a,b": "c", a: "b,c" } },
    { ...one, labels: {} },
  ]);
  t.deepEqual(
    set.values().map((each) => toHex(each.payload)),
    ["02", "01", "01", "02", "01"],
  );
});

test("the earliest start time is kept", (t) => {
  const at = (seconds: bigint, nanos: number): MonitoringInfo =>
    info("sum_int64", "01", { startTime: { seconds, nanos } });
  const start = (...infos: MonitoringInfo[]): unknown => merged(infos).values()[0]?.startTime;
  t.deepEqual(start(at(12n, 5), at(12n, 4), at(13n, 0)), { seconds: 12n, nanos: 4 });
  t.deepEqual(start(info("sum_int64", "01"), at(-1n, 0)), { seconds: -1n, nanos: 0 });
  t.is(start(info("sum_int64", "01")), undefined);
});

test("an encoded info is read as Python wrote it and written as the generated code reads it", (t) => {
  const fromPython = hex(
    "0a1d6265616d3a6d65747269633a757365723a73756d5f696e7436343a763112196265616d3a6d6574726963733a73756d5f696e7436343a7631" +
      "1a088180808080808010220e0a094e414d45535041434512016e22090a044e414d45120163220f0a0a505452414e53464f524d1201742a04080c1005",
  );
  const set = new MonitoringInfoSet();
  set.mergeEncoded(fromPython);
  t.deepEqual(set.values(), [
    info("sum_int64", "8180808080808010", {
      labels: { NAMESPACE: "n", NAME: "c", PTRANSFORM: "t" },
      startTime: { seconds: 12n, nanos: 5 },
    }),
  ]);
  t.deepEqual(
    set.encoded().map((bytes) => GeneratedMonitoringInfo.decode(bytes)),
    [GeneratedMonitoringInfo.decode(fromPython)],
  );
});

test("malformed infos and payloads are left out and counted, never thrown", (t) => {
  const set = merged([
    info("sum_int64", "05"),
    info("sum_int64", ""),
    info("sum_int64", "80"),
    info("sum_int64", "0101"),
    info("sum_double", "3ff8"),
    info("distribution_int64", "0101"),
    info("set_string", "0000000205"),
    info("set_string", "fffffffe"),
    info("bounded_trie", "12ff"),
    info("histogram_int64", "1a05"),
  ]);
  set.mergeEncoded(hex("0aff"));
  t.deepEqual(set.values().map(decodeCounter), [5n]);
  t.deepEqual(set.dropped, { malformed: 10, overLimit: 0 });
});

test("a trie nested beyond reason is left out", (t) => {
  let node: Buffer = Buffer.alloc(0);
  const wrap = (field: number, bytes: Buffer): Buffer =>
    Buffer.concat([Buffer.from([field * 8 + 2]), hex(int64Hex(BigInt(bytes.length))), bytes]);
  for (let level = 0; level < 5000; level++) node = wrap(2, Buffer.concat([hex("0a0161"), wrap(2, node)]));
  t.is(merged([info("bounded_trie", wrap(2, node))]).dropped.malformed, 1);
});

test("beyond a limit new infos are dropped and counted while known ones go on counting", (t) => {
  const named = (name: string): MonitoringInfo => info("sum_int64", "01", { labels: { NAME: name } });
  const few = new MonitoringInfoSet({ maxInfos: 2 });
  for (const name of ["a", "b", "c", "a"]) few.merge(named(name));
  t.deepEqual(few.values().map(decodeCounter), [2n, 1n]);
  t.deepEqual(few.dropped, { malformed: 0, overLimit: 1 });

  const small = new MonitoringInfoSet({ maxBytes: 2000 });
  const strings = (text: string): MonitoringInfo =>
    info("set_string", hex(`00000001${int64Hex(BigInt(text.length))}${Buffer.from(text).toString("hex")}`));
  small.merge(strings("x"));
  small.merge(strings("y".repeat(10_000)));
  small.merge(strings("z"));
  t.is(toHex(small.values()[0]?.payload), "000000020178017a");
  t.deepEqual(small.dropped, { malformed: 0, overLimit: 1 });

  const all = new MonitoringInfoSet();
  all.mergeAll(small);
  t.deepEqual(all.dropped, { malformed: 0, overLimit: 1 });
});

test("merging a set leaves it as it was, and a set may be merged into itself", (t) => {
  const source = merged([info("sum_int64", "03"), info("set_string", "000000010161")]);
  const before = source.encoded();
  const target = merged([info("set_string", "000000010162")]);
  target.mergeAll(source);
  target.mergeAll(target);
  t.deepEqual(source.encoded(), before);
  t.deepEqual(
    target.values().map((each) => toHex(each.payload)),
    ["0000000201610162", "06"],
  );
});

test("decodeCounter answers for well-formed counters only", (t) => {
  t.is(decodeCounter(info("sum_int64", "80808080808080808001")), -(2n ** 63n));
  t.is(decodeCounter(info("sum_int64", "80")), undefined);
  t.is(decodeCounter(info("latest_int64", "01")), undefined);
});

// Laws. Few values, so that keys, timestamps and prefixes meet; doubles are quarters, so that their sums are exact.
const int = fc
  .oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.bigInt({ min: -3n, max: 3n }))
  .map(int64Hex);
const double = fc.integer({ min: -1000, max: 1000 }).map((value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value / 4);
  return bytes.toString("hex");
});
const time = fc.bigInt({ min: 0n, max: 3n }).map(int64Hex);
const count = fc.bigInt({ min: 0n, max: 2n ** 40n }).map(int64Hex);
const concat = (...parts: fc.Arbitrary<string>[]): fc.Arbitrary<string> =>
  fc.tuple(...parts).map((all) => all.join(""));
const listOf = (value: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.array(value, { maxLength: 4 }).map((all) => `0000000${all.length}${all.join("")}`);
const text = fc.constantFrom("00", "0161", "0162", "02c3a9");
const bucketCounts = fc.array(fc.integer({ min: 0, max: 127 }), { minLength: 1, maxLength: 5 });
const histogram = bucketCounts.map((counts) => `12040a0208051a0${counts.length}${Buffer.from(counts).toString("hex")}`);
const path = fc.array(fc.constantFrom("1a0161", "1a0162", "1a0163"), { maxLength: 4 });
const trieWith = (bound: string): fc.Arbitrary<string> => path.map((segments) => `08${bound}${segments.join("")}`);

const exactKinds: Record<string, fc.Arbitrary<string>> = {
  sum_int64: int,
  sum_double: double,
  distribution_int64: concat(count, int, int, int),
  distribution_double: concat(count, double, double, double),
  latest_int64: concat(time, int),
  latest_double: concat(time, double),
  top_n_int64: listOf(int),
  top_n_double: listOf(double),
  bottom_n_int64: listOf(int),
  bottom_n_double: listOf(double),
  set_string: listOf(text),
  bounded_trie: trieWith("64"),
  histogram_int64: histogram,
};

const startTime = fc.option(fc.record({ seconds: fc.bigInt({ min: 0n, max: 2n }), nanos: fc.nat(2) }), {
  nil: undefined,
});
const sets = (kinds: Record<string, fc.Arbitrary<string>>): fc.Arbitrary<MonitoringInfo[]> => {
  const one = fc
    .constantFrom(...Object.entries(kinds))
    .chain(([kind, payload]) =>
      fc
        .tuple(payload, startTime, fc.constantFrom("x", "y"))
        .map(([bytes, start, name]) => info(kind, bytes, { startTime: start, labels: { NAME: name } })),
    );
  return fc.array(one, { maxLength: 12 });
};
const canonical = (set: MonitoringInfoSet): string[] => set.encoded().map(toHex).sort();
const union = (...all: MonitoringInfoSet[]): MonitoringInfoSet => {
  const target = new MonitoringInfoSet();
  for (const one of all) target.mergeAll(one);
  return target;
};

test("property: merging is commutative and associative, and nothing well-formed is dropped", (t) => {
  fc.assert(
    fc.property(sets(exactKinds), sets(exactKinds), sets(exactKinds), (first, second, third) => {
      const [a, b, c] = [merged(first), merged(second), merged(third)];
      const expected = canonical(merged([...first, ...second, ...third]));
      t.deepEqual(canonical(union(a, union(b, c))), expected);
      t.deepEqual(canonical(union(union(a, b), c)), expected);
      t.deepEqual(canonical(union(c, a, b)), expected);
      t.deepEqual(union(a, b, c).dropped, { malformed: 0, overLimit: 0 });
    }),
    { numRuns: 300 },
  );
});

test("property: encoding in between, as from worker to job server, changes nothing but the rest of top lists", (t) => {
  const { top_n_int64: _1, top_n_double: _2, bottom_n_int64: _3, bottom_n_double: _4, ...kinds } = exactKinds;
  fc.assert(
    fc.property(sets(kinds), sets(kinds), (first, second) => {
      const set = new MonitoringInfoSet();
      for (const bytes of [...merged(first).encoded(), ...merged(second).encoded()]) set.mergeEncoded(bytes);
      t.deepEqual(canonical(set), canonical(merged([...first, ...second])));
      t.deepEqual(set.values().map(encodeMonitoringInfo), set.encoded());
    }),
    { numRuns: 200 },
  );
});

test("property: truncating tries is commutative, stays within the bound, and forgets no path's prefix", (t) => {
  const paths = fc.array(trieWith("64"), { minLength: 1, maxLength: 10 });
  const limited = fc.array(trieWith("03"), { minLength: 1, maxLength: 10 });
  fc.assert(
    fc.property(paths, limited, (wide, narrow) => {
      const left = mergedPayload("bounded_trie", ...wide);
      const right = mergedPayload("bounded_trie", ...narrow);
      const both = mergedPayload("bounded_trie", left, right);
      t.is(mergedPayload("bounded_trie", right, left), both);
      const kept = boundedTriePaths(decodeBoundedTrie(hex(both)));
      if (right !== "0803") t.true(kept.length <= 3, kept.join(" "));
      for (const each of boundedTriePaths(decodeBoundedTrie(hex(left))))
        t.true(
          kept.some((one) => one.startsWith(each) || (one.endsWith("*") && each.startsWith(one.slice(0, -1)))),
          `${each} in ${kept.join(" ")}`,
        );
    }),
    { numRuns: 200, examples: [[["0864"], ["0803"]]] },
  );
});
