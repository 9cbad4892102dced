/** Encoded windowed values one by one: where each ends, and its timestamp, with which it begins. */
import type { Skip } from "../../coders/element-boundary.ts";
import { MAX_TIMESTAMP, readTimestamp, type Timestamp } from "../../time/timestamp.ts";

/** The least timestamp of the elements; MAX_TIMESTAMP when there is none. @param skip over one windowed value */
export function leastTimestamp(data: Uint8Array, skip: Skip): Timestamp {
  let least: Timestamp = MAX_TIMESTAMP;
  for (let at = 0; at < data.length; at = skip(data, at)) {
    const timestamp = readTimestamp(data, at);
    if (timestamp < least) least = timestamp;
  }
  return least;
}

/** Each element's bytes, in place. @param skip over one element */
export function elementsOf(data: Uint8Array, skip: Skip): Uint8Array[] {
  const elements: Uint8Array[] = [];
  for (let at = 0; at < data.length;) {
    const end = skip(data, at);
    elements.push(data.subarray(at, end));
    at = end;
  }
  return elements;
}
