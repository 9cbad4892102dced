/**
 * Row keys of user state. A cell is one state of one key in one window; its head row is there exactly while the cell
 * is not empty, and says how the rest is laid out. Each (transform, state id) has a table of its own.
 *
 * Layout of a cell's key: key group (2), length of key (varint), key, length of window (varint), window. Rows of a cell
 * other than its head have the cell's key as prefix and a tag behind it. All of it is part of the snapshot format.
 */
import { WeirError } from "../../base/errors.ts";
import { hashBytes } from "../../coders/key-group.ts";
import { varintLength, writeVarint } from "../../coders/byte-reader.ts";

/** The first byte of a head row. */
export const HEAD_INLINE_BAG = 0;
export const HEAD_CHUNKED_BAG = 1;
export const HEAD_ORDERED_LIST = 2;
export const HEAD_MULTIMAP = 3;

/** A page of a state's logical byte stream; it ends where an element ends. */
export interface StatePage {
  readonly data: Uint8Array;
  /** Empty after the last page. */
  readonly continuationToken: Uint8Array;
}

export const NO_BYTES = new Uint8Array(0);
export const EMPTY_PAGE: StatePage = { data: NO_BYTES, continuationToken: NO_BYTES };

let scratch = Buffer.allocUnsafeSlow(1024);

/** The key of the cell's head row. */
export function cellKey(key: Uint8Array, window: Uint8Array, maxParallelism: number): string {
  const keyBytes = key.length;
  const windowBytes = window.length;
  // Two varints of at most five bytes each.
  if (keyBytes + windowBytes + 12 > scratch.length) scratch = Buffer.allocUnsafeSlow(2 * (keyBytes + windowBytes) + 12);
  const keyGroup = hashBytes(key, 0, keyBytes) % maxParallelism;
  scratch[0] = keyGroup >>> 8;
  scratch[1] = keyGroup;
  let at = writeVarint(scratch, 2, keyBytes);
  scratch.set(key, at);
  at = writeVarint(scratch, at + keyBytes, windowBytes);
  scratch.set(window, at);
  return scratch.toString("latin1", 0, at + windowBytes);
}

/** The window of a head row's key; undefined for the key of any other row. */
export function windowOfHead(rowKey: string): Uint8Array | undefined {
  const afterKey = skipPrefixed(rowKey, 2);
  const end = skipPrefixed(rowKey, afterKey);
  if (end !== rowKey.length) return undefined;
  const window = Buffer.from(rowKey.slice(afterKey), "latin1");
  let at = 0;
  while ((window[at] as number) >= 0x80) at++;
  return window.subarray(at + 1);
}

/** The position after the length-prefixed bytes at `position`; NaN past the end. */
function skipPrefixed(text: string, position: number): number {
  let length = 0;
  let factor = 1;
  let at = position;
  for (; text.charCodeAt(at) >= 0x80; at++, factor *= 128) length += (text.charCodeAt(at) & 0x7f) * factor;
  return at + 1 + length + text.charCodeAt(at) * factor;
}

/** Bytes as a length-prefixed binary string. */
export function prefixed(bytes: Uint8Array): string {
  const buffer = Buffer.allocUnsafe(bytes.length + varintLength(bytes.length));
  buffer.set(bytes, writeVarint(buffer, 0, bytes.length));
  return buffer.toString("latin1");
}

export function binary(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

export function bytesOf(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "latin1"));
}

/** Four bytes, big-endian. */
export function uint32Text(value: number): string {
  return String.fromCharCode(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

export function concatenated(parts: readonly Uint8Array[], byteLength: number): Uint8Array {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return only;
  const bytes = new Uint8Array(byteLength);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** A continuation token that no page of ours ends with. */
export function foreignToken(): WeirError {
  return new WeirError({
    code: "INVALID_ARGUMENT",
    domain: "external",
    message: "The SDK continues to read user state with a continuation token that the runner has not given out.",
  });
}

/** A row that does not fit the request: rows of another kind of state, or damaged ones. */
export function unexpectedRow(what: string): WeirError {
  return new WeirError({
    code: "DATA_LOSS",
    domain: "internal",
    message: `The stored user state is not ${what}.`,
    hint: "A state id that changed its kind cannot be restored from an older snapshot: give it a new id.",
  });
}
