/** Timestamps of encoded windowed values, which begin with them. */
import type { Chunk } from "../../base/chunk.ts";
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

/** As `leastTimestamp`, of a chunk. */
export function holdOf(chunk: Chunk, skip: Skip): Timestamp {
  return leastTimestamp(chunk.data, skip);
}
