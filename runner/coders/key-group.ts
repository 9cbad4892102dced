/**
 * Which key group a key belongs to, and which subtask owns a key group. The hash is part of every snapshot's meaning:
 * it must never change.
 *
 * Source: MurmurHash3_x86_32 (Austin Appleby, public domain); key-group ranges as in Flink's KeyGroupRangeAssignment.
 */
import type { KeyGroup } from "../base/ids.ts";

/** murmur3 (x86, 32 bits) of bytes[start, end), unsigned. */
export function hashBytes(bytes: Uint8Array, start: number, end: number, seed = 0): number {
  let hash = seed;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    const word =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    let mixed = Math.imul(word, 0xcc9e2d51);
    mixed = (mixed << 15) | (mixed >>> 17);
    hash ^= Math.imul(mixed, 0x1b873593);
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  let rest = 0;
  const left = end - at;
  if (left >= 3) rest ^= (bytes[at + 2] as number) << 16;
  if (left >= 2) rest ^= (bytes[at + 1] as number) << 8;
  if (left >= 1) {
    rest ^= bytes[at] as number;
    rest = Math.imul(rest, 0xcc9e2d51);
    rest = (rest << 15) | (rest >>> 17);
    hash ^= Math.imul(rest, 0x1b873593);
  }
  hash ^= end - start;
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  hash ^= hash >>> 16;
  return hash >>> 0;
}

export function keyGroupOf(hash: number, maxParallelism: number): KeyGroup {
  return (hash % maxParallelism) as KeyGroup;
}

/** The subtask whose range holds the key group: ranges are contiguous and as equal as can be. */
export function partitionOf(keyGroup: KeyGroup, maxParallelism: number, parallelism: number): number {
  return Math.floor((keyGroup * parallelism) / maxParallelism);
}
