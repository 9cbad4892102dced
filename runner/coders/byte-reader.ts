/**
 * Reading numbers out of encoded elements, bounds checked: a read past the end is an error of whoever encoded, which
 * `malformed` turns into one message. No DataView: making one costs more than reading a few bytes.
 */
import { WeirError } from "../base/errors.ts";

/** The bytes end within an element: more of them may make it whole. */
export class TruncatedElementError extends WeirError {
  /** Where the element begins, as far as that is known. */
  wholeBytes = 0;
}

/** @param what the coder, for the message. @param problem default: the bytes end too early. */
export function malformed(what: string, bytes: Uint8Array, position: number, problem?: string): WeirError {
  const ErrorClass = problem === undefined ? TruncatedElementError : WeirError;
  return new ErrorClass({
    code: "DATA_LOSS",
    domain: "external",
    message: `An element encoded with coder ${what} ${problem ?? "ends too early"}, at byte ${position} of ${bytes.length}.`,
    hint: "What the SDK sent does not fit the coder that it declared: look for a coder whose encode and decode differ.",
  });
}

/** The signed big-endian 32-bit number at `position`. @throws WeirError DATA_LOSS past the end. */
export function readInt32(bytes: Uint8Array, position: number, what: string): number {
  if (position + 4 > bytes.length) throw malformed(what, bytes, position);
  return (
    ((bytes[position] as number) << 24) |
    ((bytes[position + 1] as number) << 16) |
    ((bytes[position + 2] as number) << 8) |
    (bytes[position + 3] as number)
  );
}

/** The position after the varint at `position`: groups of seven bits, at most ten. @throws WeirError DATA_LOSS. */
export function varintEnd(bytes: Uint8Array, position: number, what: string): number {
  const limit = Math.min(bytes.length, position + 10);
  for (let at = position; at < limit; at++) if ((bytes[at] as number) < 0x80) return at + 1;
  throw malformed(what, bytes, position, limit === bytes.length ? undefined : "has a varint of more than ten bytes");
}

/**
 * The varint at `position` as a number: exact below 2^53, rounded above; the ten bytes of a negative number give one
 * of at least 2^63. @throws WeirError DATA_LOSS.
 */
export function readVarint(bytes: Uint8Array, position: number, what: string): number {
  const end = varintEnd(bytes, position, what);
  let value = 0;
  for (let at = end - 1; at >= position; at--) value = value * 128 + ((bytes[at] as number) & 0x7f);
  return value;
}

/** How many bytes the non-negative safe integer takes as a varint. */
export function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) length++;
  return length;
}

/** Writes a non-negative safe integer as a varint. @returns the position after it. */
export function writeVarint(bytes: Uint8Array, position: number, value: number): number {
  let at = position;
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes[at++] = (rest % 128) | 0x80;
  bytes[at++] = rest;
  return at;
}
