/**
 * The times of an encoded window: its maximum timestamp, and when what is known of it is garbage.
 *
 * Source: LateDataUtils.garbageCollectionTime of the Java reference.
 */
import { WeirError } from "../../../base/errors.ts";
import type { CoderTable } from "../../../graph/execution-graph.ts";
import {
  decrementTimestamp,
  END_OF_GLOBAL_WINDOW,
  readExactMs,
  readTimestamp,
  TIMESTAMP_BYTES,
  type Timestamp,
  writeTimestamp,
} from "../../../time/timestamp.ts";

export interface WindowTimes {
  /** Of the window at the position. */
  maxTimestamp(bytes: Uint8Array, position: number): Timestamp;
  /** The maximum timestamp to the millisecond, also where a number is not exact. */
  writeMaxTimestamp(window: Uint8Array, into: Uint8Array, at: number): void;
}

/** @throws WeirError for a window coder whose windows do not tell their maximum timestamp. */
export function windowTimesOf(coders: CoderTable, windowCoderId: string): WindowTimes {
  const urn = coders[windowCoderId]?.urn;
  switch (urn) {
    case "beam:coder:global_window:v1":
      return {
        maxTimestamp: () => END_OF_GLOBAL_WINDOW,
        writeMaxTimestamp: (_window, into, at) => writeTimestamp(into, at, END_OF_GLOBAL_WINDOW),
      };
    case "beam:coder:interval_window:v1":
      return {
        maxTimestamp: (bytes, position) => {
          const end = readTimestamp(bytes, position);
          return Number.isSafeInteger(end)
            ? ((end - 1) as Timestamp)
            : (Number(readExactMs(bytes, position) - 1n) as Timestamp);
        },
        writeMaxTimestamp: (window, into, at) => {
          copyTimestamp(window, into, at);
          decrementTimestamp(into, at);
        },
      };
    case "beam:coder:custom_window:v1":
      return { maxTimestamp: readTimestamp, writeMaxTimestamp: copyTimestamp };
    default:
      throw new WeirError({
        code: "UNIMPLEMENTED",
        domain: "internal",
        message: `Windows encoded with "${windowCoderId}" (${urn ?? "not defined"}) do not tell their maximum timestamp.`,
        hint: "A custom window must be wrapped in beam:coder:custom_window:v1.",
      });
  }
}

/** The input watermark past which elements of the window are dropped and its state is garbage. */
export function garbageCollectionTime(maxTimestamp: Timestamp, allowedLatenessMs: number): Timestamp {
  if (END_OF_GLOBAL_WINDOW - allowedLatenessMs < maxTimestamp) return END_OF_GLOBAL_WINDOW;
  return (maxTimestamp + allowedLatenessMs) as Timestamp;
}

function copyTimestamp(window: Uint8Array, into: Uint8Array, at: number): void {
  for (let index = 0; index < TIMESTAMP_BYTES; index++) into[at + index] = window[index] as number;
}
