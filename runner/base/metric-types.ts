/**
 * How the payload of each MonitoringInfo type is read, merged and written. One entry per type URN; a type that is not
 * in the table (progress, monitoring_table, whatever comes later) is opaque and its last value wins.
 *
 * Invariants: values are immutable, so sets may share them; merging is commutative and associative, except for the
 * last-wins types, the rounding of double sums, and sets or tries that have reached their bound.
 * Source: MonitoringInfoTypeUrns of metrics.proto; apache_beam/metrics/{monitoring_infos,cells}.py.
 */
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { boundedTrieBytes, decodeBoundedTrie, encodeBoundedTrie, mergeBoundedTries } from "./bounded-trie.ts";
import { decodeMetricHistogram, encodeMetricHistogram, mergeMetricHistograms } from "./metric-histogram.ts";

export interface MetricType<Value> {
  /** Never keeps a view of `payload`. @throws Error (any) when it is malformed. */
  decode(payload: Uint8Array): Value;
  encode(value: Value): Uint8Array;
  /** Changes neither operand; `right` is the later one. @throws Error when the two contradict each other. */
  merge(left: Value, right: Value): Value;
  /** An estimate of the memory that a value holds. */
  bytes(value: Value): number;
}

export const SUM_INT64_TYPE = "beam:metrics:sum_int64:v1";

/** As in the Python SDK, which stops recording there: the sum of the strings' lengths in one set. */
const SET_STRING_MAX_CHARACTERS = 1_000_000;
/** The payload does not say n; no dashboard shows more. */
const EXTREMES_MAX_VALUES = 1000;

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** The numbers of one kind: how they are written, added and ordered. */
interface Numbers<N> {
  read(reader: PayloadReader): N;
  write(writer: BinaryWriter, value: N): void;
  add(left: N, right: N): N;
  min(left: N, right: N): N;
  max(left: N, right: N): N;
  /** Neutral for add, min and max. */
  readonly zero: N;
  readonly highest: N;
  readonly lowest: N;
}

/** Exact while in memory; written modulo 2^64, as the SDKs' own 64-bit sums wrap. */
const int64: Numbers<bigint> = {
  read: (reader) => reader.varint(),
  write: (writer, value) => void writer.int64(BigInt.asIntN(64, value)),
  add: (left, right) => left + right,
  min: (left, right) => (left < right ? left : right),
  max: (left, right) => (left > right ? left : right),
  zero: 0n,
  highest: INT64_MAX,
  lowest: INT64_MIN,
};

const double: Numbers<number> = {
  read: (reader) => reader.double(),
  write: (writer, value) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value);
    writer.raw(bytes);
  },
  add: (left, right) => left + right,
  // Math's, since they are commutative for NaN and for -0 too.
  min: Math.min,
  max: Math.max,
  zero: 0,
  highest: Infinity,
  lowest: -Infinity,
};

function sum<N>(numbers: Numbers<N>): MetricType<N> {
  return {
    decode: (payload) => PayloadReader.readAll(payload, (reader) => numbers.read(reader)),
    encode: (value) => written((writer) => numbers.write(writer, value)),
    merge: (left, right) => numbers.add(left, right),
    bytes: () => 16,
  };
}

interface Distribution<N> {
  readonly count: bigint;
  readonly sum: N;
  readonly min: N;
  readonly max: N;
}

/** <count><sum><min><max>. All four are written for a count of zero too: Python's client reads all four. */
function distribution<N>(numbers: Numbers<N>): MetricType<Distribution<N>> {
  return {
    decode: (payload) =>
      PayloadReader.readAll(payload, (reader) => {
        const count = reader.varint();
        if (count === 0n) {
          // An SDK may leave the rest out, or send what means nothing.
          reader.skipRest();
          return { count, sum: numbers.zero, min: numbers.highest, max: numbers.lowest };
        }
        return { count, sum: numbers.read(reader), min: numbers.read(reader), max: numbers.read(reader) };
      }),
    encode: (value) =>
      written((writer) => {
        int64.write(writer, value.count);
        numbers.write(writer, value.sum);
        numbers.write(writer, value.min);
        numbers.write(writer, value.max);
      }),
    merge: (left, right) => ({
      count: left.count + right.count,
      sum: numbers.add(left.sum, right.sum),
      min: numbers.min(left.min, right.min),
      max: numbers.max(left.max, right.max),
    }),
    bytes: () => 64,
  };
}

interface Latest<N> {
  readonly timestampMs: bigint;
  readonly value: N;
}

/** <timestamp><value>. Of two values of one millisecond the larger wins: bundles arrive in no particular order. */
function latest<N>(numbers: Numbers<N>): MetricType<Latest<N>> {
  return {
    decode: (payload) =>
      PayloadReader.readAll(payload, (reader) => ({ timestampMs: reader.varint(), value: numbers.read(reader) })),
    encode: (latestValue) =>
      written((writer) => {
        int64.write(writer, latestValue.timestampMs);
        numbers.write(writer, latestValue.value);
      }),
    merge: (left, right) => {
      if (left.timestampMs !== right.timestampMs) return left.timestampMs > right.timestampMs ? left : right;
      return { timestampMs: left.timestampMs, value: numbers.max(left.value, right.value) };
    },
    bytes: () => 32,
  };
}

interface Extremes<N> {
  /** More than n may be kept, in order, best first: which n belong to the result is known at the end only. */
  readonly values: readonly N[];
  /** Length of the longest list seen: the only evidence of the n that the user chose. */
  readonly n: number;
}

function extremes<N extends bigint | number>(numbers: Numbers<N>, end: "top" | "bottom"): MetricType<Extremes<N>> {
  const before = (left: N, right: N): number => {
    const upwards = left < right ? -1 : left > right ? 1 : Number(left !== left) - Number(right !== right);
    return end === "bottom" ? upwards : -upwards;
  };
  const best = (values: readonly N[]): N[] => values.toSorted(before).slice(0, EXTREMES_MAX_VALUES);
  return {
    decode: (payload) => {
      const values = best(PayloadReader.readAll(payload, (reader) => reader.iterable(() => numbers.read(reader))));
      return { values, n: values.length };
    },
    encode: ({ values, n }) =>
      written((writer) => writeIterable(writer, values.slice(0, n), (value) => numbers.write(writer, value))),
    merge: (left, right) => ({ values: best([...left.values, ...right.values]), n: Math.max(left.n, right.n) }),
    bytes: ({ values }) => 16 * values.length,
  };
}

interface StringSet {
  readonly strings: ReadonlySet<string>;
  readonly characters: number;
}

const setString: MetricType<StringSet> = {
  decode: (payload) =>
    addUntilFull(
      { strings: new Set(), characters: 0 },
      PayloadReader.readAll(payload, (reader) => reader.iterable(() => reader.string())),
    ),
  // Sorted, so that equal sets have equal bytes.
  encode: ({ strings }) =>
    written((writer) => writeIterable(writer, [...strings].sort(), (value) => void writer.string(value))),
  merge: (left, right) => addUntilFull(left, right.strings),
  bytes: ({ strings, characters }) => 2 * characters + 32 * strings.size,
};

function addUntilFull(to: StringSet, more: Iterable<string>): StringSet {
  // Mostly there is nothing new, and the set need not be copied.
  let added: Set<string> | undefined;
  let { characters } = to;
  for (const one of more) {
    if (characters > SET_STRING_MAX_CHARACTERS) break;
    if ((added ?? to.strings).has(one)) continue;
    added ??= new Set(to.strings);
    added.add(one);
    characters += one.length;
  }
  return added === undefined ? to : { strings: added, characters };
}

const lastWins: MetricType<Uint8Array> = {
  decode: (payload) => Uint8Array.from(payload),
  encode: (value) => value,
  merge: (_left, right) => right,
  bytes: (value) => value.length,
};

const TYPES: ReadonlyMap<string, MetricType<unknown>> = new Map<string, MetricType<unknown>>([
  [SUM_INT64_TYPE, sum(int64)],
  ["beam:metrics:sum_double:v1", sum(double)],
  ["beam:metrics:distribution_int64:v1", distribution(int64)],
  ["beam:metrics:distribution_double:v1", distribution(double)],
  ["beam:metrics:latest_int64:v1", latest(int64)],
  ["beam:metrics:latest_double:v1", latest(double)],
  ["beam:metrics:top_n_int64:v1", extremes(int64, "top")],
  ["beam:metrics:top_n_double:v1", extremes(double, "top")],
  ["beam:metrics:bottom_n_int64:v1", extremes(int64, "bottom")],
  ["beam:metrics:bottom_n_double:v1", extremes(double, "bottom")],
  ["beam:metrics:set_string:v1", setString],
  [
    "beam:metrics:bounded_trie:v1",
    { decode: decodeBoundedTrie, encode: encodeBoundedTrie, merge: mergeBoundedTries, bytes: boundedTrieBytes },
  ],
  [
    "beam:metrics:histogram_int64:v1",
    {
      decode: decodeMetricHistogram,
      encode: encodeMetricHistogram,
      merge: mergeMetricHistograms,
      bytes: ({ bucketCounts }) => 16 * bucketCounts.length,
    },
  ],
] as [string, MetricType<unknown>][]);

/** The rules of a type URN; last wins for one that is not known. */
export function metricType(typeUrn: string): MetricType<unknown> {
  return TYPES.get(typeUrn) ?? lastWins;
}

function written(write: (writer: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
}

/** Four bytes of count, then the elements. */
function writeIterable<T>(writer: BinaryWriter, values: readonly T[], write: (value: T) => void): void {
  const count = new Uint8Array(4);
  new DataView(count.buffer).setInt32(0, values.length);
  writer.raw(count);
  for (const value of values) write(value);
}

/** Beam's coders in the nested context, for payloads only: not for elements. */
class PayloadReader {
  readonly #reader: BinaryReader;
  readonly #view: DataView;

  private constructor(payload: Uint8Array) {
    this.#reader = new BinaryReader(payload);
    this.#view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  }

  /** Bytes left over mean another format than the type's, of which nothing should be believed. */
  static readAll<T>(payload: Uint8Array, read: (reader: PayloadReader) => T): T {
    const reader = new PayloadReader(payload);
    const value = read(reader);
    if (reader.#reader.pos !== payload.length) throw new Error("The payload is longer than its type says.");
    return value;
  }

  varint(): bigint {
    return BigInt(this.#reader.int64());
  }

  double(): number {
    const value = this.#view.getFloat64(this.#reader.pos);
    this.#reader.pos += 8;
    return value;
  }

  string(): string {
    return this.#reader.string();
  }

  skipRest(): void {
    this.#reader.pos = this.#reader.len;
  }

  /** A count, or -1 and blocks that each begin with a varint count, up to an empty one. */
  iterable<T>(read: () => T): T[] {
    const values: T[] = [];
    let count = BigInt(this.#view.getInt32(this.#reader.pos));
    this.#reader.pos += 4;
    const inBlocks = count === -1n;
    if (inBlocks) count = this.varint();
    while (count > 0n) {
      for (let index = 0n; index < count; index++) values.push(read());
      count = inBlocks ? this.varint() : 0n;
    }
    if (count < 0n) throw new Error("An iterable has a negative count.");
    return values;
  }
}
