/**
 * The hash by which a grouping finds and distributes its groups. Another seed than that of key groups: within a
 * subtask all keys are of the same few key groups, so that hash is used up.
 */
import { hashBytes } from "../../coders/key-group.ts";

const SEED = 0x2f0b4a87;

/** Of a window and a key; of the key alone where the window's range is empty. Signed, 32 bits. */
export function recordHash(
  windows: Uint8Array,
  windowStart: number,
  windowEnd: number,
  bytes: Uint8Array,
  keyStart: number,
  keyEnd: number,
): number {
  const seed = windowStart === windowEnd ? SEED : hashBytes(windows, windowStart, windowEnd, SEED);
  return hashBytes(bytes, keyStart, keyEnd, seed) | 0;
}
