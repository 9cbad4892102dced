/** Checks that a partition arrives as long as it was sealed: a short read must never look like an end. */
import type { Chunk } from "../../base/chunk.ts";
import type { PartitionRef } from "../task/ports.ts";
import { LostPartitionError } from "./lost-partition-error.ts";

/** The chunks. @throws LostPartitionError DATA_LOSS at the end when bytes or elements are missing or too many. */
export async function* verifyLength(ref: PartitionRef, chunks: AsyncIterable<Chunk>): AsyncGenerator<Chunk> {
  // Most partitions of a small dataset are empty: they are not asked for.
  if (ref.byteLength === 0 && ref.elementCount === 0) return;
  let byteLength = 0;
  let elementCount = 0;
  for await (const chunk of chunks) {
    byteLength += chunk.data.byteLength;
    elementCount += chunk.elementCount;
    if (byteLength > ref.byteLength || elementCount > ref.elementCount) break;
    yield chunk;
  }
  if (byteLength === ref.byteLength && elementCount === ref.elementCount) return;
  const received = `${byteLength} bytes in ${elementCount} elements arrived`;
  throw new LostPartitionError(
    ref,
    `${received}, ${ref.byteLength} bytes in ${ref.elementCount} elements were sealed.`,
    "DATA_LOSS",
  );
}
