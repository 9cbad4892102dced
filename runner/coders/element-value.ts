/**
 * Encoded elements as values for people: numbers, text, lists; what no standard coder describes stays bytes. For tools
 * that show state, not for the data path.
 *
 * Forms: string_utf8 a string; bytes and whatever is opaque behind a length prefix base64; varint and double numbers
 * (those that JSON cannot hold as text); kv and iterables arrays; null null; a window its maximum timestamp or its
 * bounds as ISO times; a row an object of its fields.
 * Source: StandardCoders of beam_runner_api.proto; as element-boundary.ts, which walks over the same bytes.
 */
import type { CoderTable } from "../graph/execution-graph.ts";
import { readExactMs } from "../time/timestamp.ts";
import { malformed, varintEnd } from "./byte-reader.ts";
import { compileSkip, componentOf } from "./element-boundary.ts";
import { decodeExactIntervalWindow } from "./interval-window.ts";
import { compileRowReader } from "./row-value.ts";
import {
  base64,
  doubleOf,
  fixed,
  iterable,
  numberOf,
  prefixed,
  readInt64,
  rest,
  text,
  timeText,
  type ValueReader,
} from "./value-reader.ts";

export type { Json, ValueReader } from "./value-reader.ts";

/**
 * @param isOuter the bytes end with the value: what comes last in it has no length of its own
 * @returns undefined where the coder as a whole is none that says anything about the value: an SDK's own, or one that
 *   is not in the table.
 */
export function compileValueReader(coders: CoderTable, coderId: string, isOuter = false): ValueReader | undefined {
  return isOpaque(coders, coderId) ? undefined : readerOf(coders, coderId, isOuter);
}

function isOpaque(coders: CoderTable, coderId: string): boolean {
  const coder = coders[coderId];
  if (coder?.urn === "beam:coder:length_prefix:v1") return isOpaque(coders, coder.components[0] ?? "");
  if (coder === undefined) return true;
  try {
    compileSkip(coders, coderId);
    return false;
  } catch {
    return true;
  }
}

function readerOf(coders: CoderTable, coderId: string, isOuter: boolean): ValueReader {
  const coder = coders[coderId];
  const what = `"${coderId}" (${coder?.urn ?? "not defined"})`;
  const component = (index: number, isLast = false): ValueReader =>
    coder === undefined
      ? opaque(coders, coderId)
      : readerOf(coders, componentOf(coder, index, what), isLast && isOuter);
  switch (coder?.urn) {
    case "beam:coder:bytes:v1":
      return isOuter ? rest(base64) : prefixed(what, base64);
    case "beam:coder:string_utf8:v1":
      return isOuter ? rest(text) : prefixed(what, text);
    case "beam:coder:length_prefix:v1": {
      const inner = coder.components[0] ?? "";
      if (isOpaque(coders, inner)) return prefixed(what, base64);
      const read = readerOf(coders, inner, true);
      return prefixed(what, (bytes) => read(bytes, 0).value);
    }
    case "beam:coder:varint:v1":
      return (bytes, position) => {
        const end = varintEnd(bytes, position, what);
        return { value: numberOf(readInt64(bytes, position, end)), end };
      };
    case "beam:coder:bool:v1":
      return fixed(1, what, (bytes, at) => bytes[at] === 1);
    case "beam:coder:double:v1":
      return fixed(8, what, (bytes, at) => doubleOf(bytes.readDoubleBE(at)));
    case "beam:coder:global_window:v1":
      return (_bytes, position) => ({ value: "global", end: position });
    case "beam:coder:interval_window:v1":
      return (bytes, position) => {
        const end = varintEnd(bytes, position + 8, what);
        const window = decodeExactIntervalWindow(bytes, position);
        return { value: `[${timeText(window.start)}, ${timeText(window.end)})`, end };
      };
    case "beam:coder:custom_window:v1": {
      const window = component(0);
      return (bytes, position) => {
        if (position + 8 > bytes.length) throw malformed(what, bytes, position);
        const { value, end } = window(bytes, position + 8);
        return { value: { maxTimestamp: timeText(readExactMs(bytes, position)), window: value }, end };
      };
    }
    case "beam:coder:kv:v1": {
      const [key, value] = [component(0), component(1, true)];
      return (bytes, position) => {
        const first = key(bytes, position);
        const second = value(bytes, first.end);
        return { value: [first.value, second.value], end: second.end };
      };
    }
    case "beam:coder:iterable:v1":
      return iterable(component(0), what);
    case "beam:coder:nullable:v1": {
      const value = component(0, true);
      return (bytes, position) => {
        if (position >= bytes.length) throw malformed(what, bytes, position);
        return bytes[position] === 0 ? { value: null, end: position + 1 } : value(bytes, position + 1);
      };
    }
    case "beam:coder:row:v1":
      return compileRowReader(coder.payload, what);
    default:
      return opaque(coders, coderId);
  }
}

/** What can be walked over, as bytes. */
function opaque(coders: CoderTable, coderId: string): ValueReader {
  const skip = compileSkip(coders, coderId);
  return (bytes, position) => {
    const end = skip(bytes, position);
    return { value: bytes.toString("base64", position, end), end };
  };
}
