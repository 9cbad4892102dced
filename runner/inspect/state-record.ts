/**
 * Rows of a snapshot as records for people and other tools: whose key they are, in which window, what they hold, and
 * what that means where a standard coder tells. The layouts are those of FORMAT.md in runner/checkpoint.
 *
 * Invariant: every row becomes one record, also where its table or its coders are not known; what cannot be decoded
 * has no decoded columns.
 */
import { readVarint, varintEnd } from "../coders/byte-reader.ts";
import { compileSkip, type Skip } from "../coders/element-boundary.ts";
import { compileValueReader, type Json, type ValueReader } from "../coders/element-value.ts";
import { numberOf, readInt64, timeText } from "../coders/value-reader.ts";
import type { ManifestTable, SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import type { CoderTable } from "../graph/execution-graph.ts";
import { NO_KEY_GROUP } from "../state/state-rows.ts";
import { readExactMs } from "../time/timestamp.ts";

export interface StateRecord {
  readonly table: string;
  /** The transform's name; empty where the rows are no transform's. */
  readonly transform: string;
  /** Of a user state or timer family. */
  readonly stateId: string;
  /** What of the state the row is: see FORMAT.md. */
  readonly part: string;
  /** Undefined for rows of no key. */
  readonly keyGroup: number | undefined;
  readonly key: Uint8Array;
  readonly window: Uint8Array | undefined;
  readonly mapKey: Uint8Array | undefined;
  readonly value: Uint8Array;
  readonly decodedKey: string | undefined;
  readonly decodedWindow: string | undefined;
  readonly decodedMapKey: string | undefined;
  readonly decodedValue: string | undefined;
}

interface Codec {
  readonly table: ManifestTable;
  readonly keySkip: Skip | undefined;
  readonly windowSkip: Skip | undefined;
  readonly key: ValueReader | undefined;
  readonly window: ValueReader | undefined;
  readonly value: ValueReader | undefined;
  readonly mapKey: ValueReader | undefined;
  /** Of an ordered list: its values are in the outer context. */
  readonly listValue: ValueReader | undefined;
}

/** What a layout finds in a row; the rest is the same for all. */
interface Parts {
  readonly codec?: Codec | undefined;
  readonly part: string;
  readonly key: Uint8Array;
  readonly window?: Uint8Array;
  readonly mapKey?: Uint8Array;
  readonly value: Uint8Array;
  readonly decodedKey?: string;
  readonly decodedValue?: string | undefined;
}

const WHAT = "row of a snapshot";
const TIMES_BYTES = 16;

/** The records of one vertex' tasks. */
export class StateRecords {
  readonly #codecs: readonly Codec[];

  constructor({ tables = [], coders = {} }: Pick<SnapshotManifest, "tables" | "coders">, vertexId: string) {
    const table: CoderTable = Object.fromEntries(
      Object.entries(coders).map(([id, { urn, components, payload }]) => [
        id,
        { urn, components, payload: new Uint8Array(Buffer.from(payload ?? "", "base64")) },
      ]),
    );
    this.#codecs = tables.filter((each) => each.vertexId === vertexId).map((each) => codecOf(each, table));
  }

  recordOf(table: string, rowKey: string, value: Uint8Array): StateRecord {
    const keyBytes = Buffer.from(rowKey, "latin1");
    const rest = keyBytes.subarray(2);
    const isKeyed = !rowKey.startsWith(NO_KEY_GROUP);
    const parts: Parts = attempt(() => this.#partsOf(table, isKeyed, rest, value)) ?? { part: "row", key: rest, value };
    const { codec, part, key, window, mapKey } = parts;
    return {
      table,
      transform: codec?.table.transform ?? transformIdOf(table),
      stateId: codec?.table.stateId ?? stateIdOf(table),
      part,
      keyGroup: isKeyed ? keyBytes.readUInt16BE(0) : undefined,
      key,
      window,
      mapKey,
      value: parts.value,
      decodedKey: parts.decodedKey ?? (isKeyed ? decoded(codec?.key, key) : undefined),
      decodedWindow: window && decoded(codec?.window, window),
      decodedMapKey: mapKey && decoded(codec?.mapKey, mapKey),
      decodedValue: parts.decodedValue,
    };
  }

  #partsOf(table: string, isKeyed: boolean, rest: Buffer, value: Uint8Array): Parts | undefined {
    if (table.startsWith("user-state/"))
      return userStateParts(
        this.#codecs.find((codec) => codec.table.table === table),
        rest,
        value,
      );
    switch (table) {
      case "timers":
        return this.#timerParts(rest, value);
      case "grouping":
        return groupingParts(
          this.#codecs.find((codec) => codec.table.table === table),
          isKeyed,
          rest,
          value,
        );
      case "task":
        return {
          part: "mark",
          key: rest,
          value,
          decodedKey: rest.toString().split("\n")[1] ?? "",
          decodedValue: millisecondsText(value, 0),
        };
      case "residuals": {
        const decodedValue = {
          due: millisecondsText(value, 0),
          hold: millisecondsText(value, 8),
          truncated: value[16] === 1,
        };
        return { part: "residual", key: rest, value: value.subarray(17), decodedValue: JSON.stringify(decodedValue) };
      }
      case "pushed-back": {
        const decodedValue = { hold: millisecondsText(value, 0), elements: view(value).getUint32(8) };
        return { part: "input", key: rest, value: value.subarray(12), decodedValue: JSON.stringify(decodedValue) };
      }
      default:
        return undefined;
    }
  }

  #timerParts(rest: Buffer, value: Uint8Array): Parts | undefined {
    const transform = prefixedAt(rest, 0);
    const family = prefixedAt(rest, transform.end);
    const codec = this.#codecs.find(
      ({ table: { kind, transformId, stateId } }) =>
        kind === "timers" && transformId === String(transform.bytes) && stateId === String(family.bytes),
    );
    if (codec?.keySkip === undefined) return undefined;
    const keyEnd = codec.keySkip(rest, family.end);
    const tag = prefixedAt(rest, keyEnd);
    const decodedValue = {
      tag: String(tag.bytes),
      fire: timeText(readExactMs(value, 0)),
      hold: value.length < TIMES_BYTES ? null : timeText(readExactMs(value, 8)),
    };
    return {
      codec,
      part: "timer",
      key: rest.subarray(family.end, keyEnd),
      window: rest.subarray(tag.end),
      value,
      decodedValue: JSON.stringify(decodedValue),
    };
  }
}

function codecOf(table: ManifestTable, coders: CoderTable): Codec {
  const skip = (coderId: string): Skip | undefined => attempt(() => compileSkip(coders, coderId));
  const reader = (coderId: string, isOuter = false): ValueReader | undefined =>
    attempt(() => compileValueReader(coders, coderId, isOuter));
  return {
    table,
    keySkip: skip(table.keyCoderId),
    windowSkip: skip(table.windowCoderId),
    key: reader(table.keyCoderId),
    window: reader(table.windowCoderId),
    value: reader(table.valueCoderId),
    mapKey: reader(table.mapKeyCoderId),
    listValue: table.kind === "ordered-list" ? reader(table.valueCoderId, true) : undefined,
  };
}

function userStateParts(codec: Codec | undefined, rest: Buffer, value: Uint8Array): Parts {
  const key = prefixedAt(rest, 0);
  const window = prefixedAt(rest, key.end);
  const cell = { codec, key: key.bytes, window: window.bytes };
  const tail = rest.subarray(window.end);
  const elements = (part: string, bytes: Uint8Array, mapKey?: Uint8Array): Parts => ({
    ...cell,
    part,
    value: bytes,
    ...(mapKey === undefined ? {} : { mapKey }),
    decodedValue: decodedElements(codec, bytes, mapKey !== undefined),
  });
  if (tail.length === 0) {
    if (value[0] === 0) return elements("elements", value.subarray(1));
    return { ...cell, part: ["", "bag-head", "list-head", "map-head"][value[0] ?? 0] ?? "row", value };
  }
  switch (String.fromCharCode(tail[0] as number)) {
    case "c":
      return elements("elements", value);
    case "b":
      return { ...cell, part: "entries", value, decodedValue: decodedEntries(codec, value) };
    case "k":
      return { ...cell, part: "map-link", mapKey: prefixedAt(tail, 1).bytes, value };
    case "v": {
      const { bytes: mapKey, end } = prefixedAt(tail, 1);
      if (end < tail.length) return elements("map-values", value, mapKey);
      if (value[0] === 0) return elements("map-values", value.subarray(1), mapKey);
      return { ...cell, part: "bag-head", mapKey, value };
    }
    default:
      return { ...cell, part: "row", value };
  }
}

function groupingParts(codec: Codec | undefined, isKeyed: boolean, rest: Buffer, value: Uint8Array): Parts | undefined {
  if (!isKeyed)
    return { part: "output-watermark", key: rest, value, decodedKey: "", decodedValue: millisecondsText(value, 0) };
  if (codec?.windowSkip === undefined || codec.keySkip === undefined) return undefined;
  const windowEnd = codec.windowSkip(rest, 1);
  const keyEnd = codec.keySkip(rest, windowEnd);
  const group = { codec, key: rest.subarray(windowEnd, keyEnd), window: rest.subarray(1, windowEnd), value };
  return rest[0] === 0x77
    ? { ...group, part: "group" }
    : { ...group, part: "values", decodedValue: decodedElements(codec, value, false) };
}

/** A value by itself, all else as a list: a combining state has the accumulators that its SDK has not merged yet. */
function decodedElements(codec: Codec | undefined, bytes: Uint8Array, isMap: boolean): string | undefined {
  const values = allOf(codec?.value, bytes);
  if (values === undefined) return undefined;
  const kind = codec?.table.kind;
  const isSingle = kind === "value" || (kind === "map" && isMap);
  return isSingle && values.length === 1 ? textOf(values[0] ?? null) : JSON.stringify(values);
}

function decodedEntries(codec: Codec | undefined, bytes: Uint8Array): string | undefined {
  const listValue = codec?.listValue;
  if (listValue === undefined) return undefined;
  const entry: ValueReader = (buffer, position) => {
    const keyEnd = varintEnd(buffer, position, WHAT);
    const { bytes: value, end } = prefixedAt(buffer, keyEnd);
    return { value: [numberOf(readInt64(buffer, position, keyEnd)), listValue(value, 0).value], end };
  };
  const entries = allOf(entry, bytes);
  return entries && JSON.stringify(entries);
}

function allOf(read: ValueReader | undefined, bytes: Uint8Array): Json[] | undefined {
  if (read === undefined) return undefined;
  return attempt(() => {
    const buffer = bufferOf(bytes);
    const values: Json[] = [];
    for (let at = 0; at < buffer.length;) {
      const { value, end } = read(buffer, at);
      values.push(value);
      if (end <= at) break;
      at = end;
    }
    return values;
  });
}

function decoded(read: ValueReader | undefined, bytes: Uint8Array): string | undefined {
  if (read === undefined) return undefined;
  return attempt(() => {
    const { value, end } = read(bufferOf(bytes), 0);
    return end === bytes.length ? textOf(value) : undefined;
  });
}

/** Text by itself, all else as JSON. */
function textOf(value: Json): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** A number of milliseconds as the tasks' own rows have them, in eight bytes. */
function millisecondsText(bytes: Uint8Array, position: number): string {
  return timeText(BigInt(Math.trunc(view(bytes).getFloat64(position))));
}

/** Length-prefixed bytes. @throws WeirError or RangeError where there are none. */
function prefixedAt(bytes: Buffer, position: number): { readonly bytes: Buffer; readonly end: number } {
  const start = varintEnd(bytes, position, WHAT);
  const end = start + readVarint(bytes, position, WHAT);
  if (end > bytes.length) throw new RangeError(`a ${WHAT} ends too early`);
  return { bytes: bytes.subarray(start, end), end };
}

function transformIdOf(table: string): string {
  return table.startsWith("user-state/") ? table.slice(11, table.lastIndexOf("/")) : "";
}

function stateIdOf(table: string): string {
  return table.startsWith("user-state/") ? table.slice(table.lastIndexOf("/") + 1) : "";
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** What bytes of another form make impossible is left out. */
function attempt<Result>(read: () => Result): Result | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
