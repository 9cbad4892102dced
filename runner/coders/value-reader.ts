/** Readers of primitive values, of which element-value.ts and row-value.ts put theirs together. */
import { malformed, readInt32, readVarint, varintEnd } from "./byte-reader.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** A value and the position after it. */
export interface ReadValue {
  readonly value: Json;
  readonly end: number;
}

/** @throws WeirError DATA_LOSS for bytes that are not of the coder. */
export type ValueReader = (bytes: Buffer, position: number) => ReadValue;

const LEAST_MS = -8_640_000_000_000_000n;
const GREATEST_MS = 8_640_000_000_000_000n;

export function base64(bytes: Buffer): Json {
  return bytes.toString("base64");
}

export function text(bytes: Buffer): Json {
  return bytes.toString();
}

/** All that is left: of a value without a length of its own. */
export function rest(decode: (bytes: Buffer) => Json): ValueReader {
  return (bytes, position) => ({ value: decode(bytes.subarray(position)), end: bytes.length });
}

export function prefixed(what: string, decode: (bytes: Buffer) => Json): ValueReader {
  return (bytes, position) => {
    const start = varintEnd(bytes, position, what);
    const end = start + readVarint(bytes, position, what);
    if (end > bytes.length) throw malformed(what, bytes, position);
    return { value: decode(bytes.subarray(start, end)), end };
  };
}

export function fixed(byteLength: number, what: string, decode: (bytes: Buffer, at: number) => Json): ValueReader {
  return (bytes, position) => {
    if (position + byteLength > bytes.length) throw malformed(what, bytes, position);
    return { value: decode(bytes, position), end: position + byteLength };
  };
}

/** A count and the items; of unknown length (-1): batches with their counts, the last one empty. */
export function iterable(item: ValueReader, what: string): ValueReader {
  return (bytes, position) => {
    const values: Json[] = [];
    let at = position + 4;
    const read = (count: number): void => {
      if (count < 0) throw malformed(what, bytes, position, "has a negative number of items");
      for (let index = 0; index < count; index++) {
        // Items may take no bytes at all: as many as the bytes are long are believed.
        if (index > bytes.length) throw malformed(what, bytes, position, "has more items than bytes");
        const { value, end } = item(bytes, at);
        values.push(value);
        at = end;
      }
    };
    const count = readInt32(bytes, position, what);
    if (count !== -1) read(count);
    else
      for (;;) {
        const batch = readVarint(bytes, at, what);
        at = varintEnd(bytes, at, what);
        if (batch === 0) break;
        read(batch);
      }
    return { value: values, end: at };
  };
}

/** A varint as the signed 64-bit number that it is. */
export function readInt64(bytes: Uint8Array, start: number, end: number): bigint {
  let value = 0n;
  for (let at = end - 1; at >= start; at--) value = (value << 7n) | BigInt((bytes[at] as number) & 0x7f);
  return BigInt.asIntN(64, value);
}

export function numberOf(value: bigint): Json {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

export function doubleOf(value: number): Json {
  // What JSON has no form for is text.
  if (Object.is(value, -0)) return "-0";
  return Number.isFinite(value) ? value : String(value);
}

/** Milliseconds since 1970 as an ISO time; as a number's text where ISO has none. */
export function timeText(ms: bigint): string {
  return ms < LEAST_MS || ms > GREATEST_MS ? String(ms) : new Date(Number(ms)).toISOString();
}
