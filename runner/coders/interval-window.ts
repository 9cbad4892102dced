/**
 * Interval windows as bytes: the end as a timestamp, then the span in milliseconds as a varint.
 *
 * Source: beam:coder:interval_window:v1 of beam_runner_api.proto.
 */
import {
  readExactMs,
  readTimestamp,
  TIMESTAMP_BYTES,
  type Timestamp,
  writeExactMs,
  writeTimestamp,
} from "../time/timestamp.ts";
import type { Interval } from "../time/window-merging.ts";
import { readVarint, varintLength, writeVarint } from "./byte-reader.ts";

const WHAT = "interval window";

/** @throws WeirError DATA_LOSS when the bytes end before the window. */
export function decodeIntervalWindow(bytes: Uint8Array, position: number): Interval {
  const spanMs = readVarint(bytes, position + TIMESTAMP_BYTES, WHAT);
  const end = readTimestamp(bytes, position);
  return { start: end - spanMs, end };
}

/** As `decodeIntervalWindow`, exact beyond 2^53 too. */
export function decodeExactIntervalWindow(bytes: Uint8Array, position: number): Interval<bigint> {
  const spanMs = BigInt(readVarint(bytes, position + TIMESTAMP_BYTES, WHAT));
  const end = readExactMs(bytes, position);
  return { start: end - spanMs, end };
}

export function encodeIntervalWindow(window: Interval | Interval<bigint>): Uint8Array {
  const spanMs = Number(window.end) - Number(window.start);
  const exactSpanMs = typeof window.end === "bigint" ? Number(window.end - (window.start as bigint)) : spanMs;
  const bytes = new Uint8Array(TIMESTAMP_BYTES + varintLength(exactSpanMs));
  if (typeof window.end === "bigint") writeExactMs(bytes, 0, window.end);
  else writeTimestamp(bytes, 0, window.end as Timestamp);
  writeVarint(bytes, TIMESTAMP_BYTES, exactSpanMs);
  return bytes;
}
