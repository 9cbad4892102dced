/**
 * Timestamps: milliseconds since 1970 as a number. Beam's extremes lie beyond the integers that a number holds
 * exactly, so the three that matter (minimum, end of the global window, maximum) are known by value and encode to
 * their exact bytes; any other value beyond 2^53 (the year 287396) is rounded to what a number can hold, to a multiple
 * of 2. Where an unusual one must come out exactly, work on its bytes (`decrementTimestamp`) or on `readExactMs`.
 *
 * Source: BoundedWindow.TIMESTAMP_MIN_VALUE and TIMESTAMP_MAX_VALUE, GlobalWindow.maxTimestamp of the Java SDK. The
 * encoding is a big-endian int64 with the sign bit flipped, so that bytes sort as timestamps do.
 */
import type { Branded } from "../base/ids.ts";

export type Timestamp = Branded<number, "Timestamp">;

const MIN_MS = -9223372036854775n;
const MAX_MS = 9223372036854775n;
const END_OF_GLOBAL_WINDOW_MS = MAX_MS - 86_400_000n;

// The nearest numbers to Beam's values; EXACT has the values.
export const MIN_TIMESTAMP = Number(MIN_MS) as Timestamp;
export const MAX_TIMESTAMP = Number(MAX_MS) as Timestamp;
/** The maximum timestamp of the global window: a day before the maximum. */
export const END_OF_GLOBAL_WINDOW = Number(END_OF_GLOBAL_WINDOW_MS) as Timestamp;

const EXACT: ReadonlyMap<number, bigint> = new Map([
  [MIN_TIMESTAMP, MIN_MS],
  [MAX_TIMESTAMP, MAX_MS],
  [END_OF_GLOBAL_WINDOW, END_OF_GLOBAL_WINDOW_MS],
]);

export const TIMESTAMP_BYTES = 8;
const TWO_32 = 4294967296;
const SIGN_BIT = 0x8000000000000000n;

/** Reads the eight bytes at `position`, which the caller has checked to be there. */
export function readTimestamp(bytes: Uint8Array, position: number): Timestamp {
  const high = (readUint32(bytes, position) ^ 0x80000000) | 0;
  return (high * TWO_32 + readUint32(bytes, position + 4)) as Timestamp;
}

/** Writes eight bytes at `position`. */
export function writeTimestamp(bytes: Uint8Array, position: number, timestamp: Timestamp): void {
  if (!Number.isSafeInteger(timestamp)) {
    writeExactMs(bytes, position, EXACT.get(timestamp) ?? BigInt(Math.trunc(timestamp)));
    return;
  }
  const high = Math.floor(timestamp / TWO_32);
  writeUint32(bytes, position, (high ^ 0x80000000) >>> 0);
  writeUint32(bytes, position + 4, timestamp - high * TWO_32);
}

/** As `readTimestamp`, for the few places where a value beyond 2^53 must not be rounded. */
export function readExactMs(bytes: Uint8Array, position: number): bigint {
  const raw = (BigInt(readUint32(bytes, position)) << 32n) | BigInt(readUint32(bytes, position + 4));
  return BigInt.asIntN(64, raw ^ SIGN_BIT);
}

export function writeExactMs(bytes: Uint8Array, position: number, ms: bigint): void {
  const raw = BigInt.asUintN(64, ms) ^ SIGN_BIT;
  writeUint32(bytes, position, Number(raw >> 32n));
  writeUint32(bytes, position + 4, Number(raw & 0xffffffffn));
}

/** Makes the eight bytes at `position` one millisecond less, exactly: a window's end becomes its maximum timestamp. */
export function decrementTimestamp(bytes: Uint8Array, position: number): void {
  for (let at = position + 7; at >= position; at--) {
    const byte = bytes[at] as number;
    bytes[at] = byte === 0 ? 255 : byte - 1;
    if (byte !== 0) return;
  }
}

export function readUint32(bytes: Uint8Array, position: number): number {
  return (
    (((bytes[position] as number) << 24) |
      ((bytes[position + 1] as number) << 16) |
      ((bytes[position + 2] as number) << 8) |
      (bytes[position + 3] as number)) >>>
    0
  );
}

function writeUint32(bytes: Uint8Array, position: number, value: number): void {
  bytes[position] = value >>> 24;
  bytes[position + 1] = value >>> 16;
  bytes[position + 2] = value >>> 8;
  bytes[position + 3] = value;
}
