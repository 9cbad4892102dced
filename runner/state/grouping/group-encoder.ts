/**
 * Writes groups as encoded windowed_value<kv<K, iterable<V>>> into chunks: timestamp, one window, pane, key, then the
 * values, in full or as a token for the state API.
 *
 * Source: IterableLikeCoder of the Java SDK: a count of four bytes and the values; or -1, runs of values each with a
 * varint count, and then 0, or -1 and a token under which the SDK reads the rest. The pane is that of a bounded
 * GroupByKey: on time, first and last.
 */
import type { Chunk } from "../../base/chunk.ts";
import { WeirError } from "../../base/errors.ts";
import { MAX_ELEMENT_BYTES } from "../../base/limits.ts";
import { varintLength, writeVarint } from "../../coders/byte-reader.ts";
import { ON_TIME_AND_ONLY_PANE } from "../../coders/pane-info.ts";
import { decrementTimestamp, END_OF_GLOBAL_WINDOW, TIMESTAMP_BYTES, writeTimestamp } from "../../time/timestamp.ts";
import {
  type Block,
  HASH,
  headerBytesOf,
  KEY_LENGTH,
  NO_RECORD,
  VALUE_LENGTH,
  WINDOW_LENGTH,
} from "./record-partition.ts";

/** A group of a loaded block: a chain of records, and where its window is written. Reused. */
export interface Group {
  windows: Uint8Array;
  windowStart: number;
  windowEnd: number;
  /** Word index of the first record; each record's hash word leads to the next. */
  first: number;
  count: number;
  valueBytes: number;
  timestampHigh: number;
  timestampLow: number;
}

/** How a window's encoding tells its maximum timestamp. */
export type WindowForm = "global" | "interval" | "max-timestamp-first";

export interface GroupEncoderInit {
  readonly windowForm: WindowForm;
  /** Whether the output's timestamp is the window's maximum, else the group's own. */
  readonly endOfWindow: boolean;
  readonly keepTimestamps: boolean;
  readonly chunkBytes: number;
  /** About how much will be written in all: what is small takes a small chunk. */
  readonly expectedBytes: () => number;
}

const MINUS_ONE_VARINT_BYTES = 10;

export class GroupEncoder {
  readonly #init: GroupEncoderInit;
  readonly #headerBytes: number;
  readonly #endOfGlobalWindow = new Uint8Array(TIMESTAMP_BYTES);
  #buffer: Buffer = Buffer.alloc(0);
  #used = 0;
  #elementCount = 0;

  constructor(init: GroupEncoderInit) {
    this.#init = init;
    this.#headerBytes = headerBytesOf(init.keepTimestamps);
    writeTimestamp(this.#endOfGlobalWindow, 0, END_OF_GLOBAL_WINDOW);
  }

  /** Writes a group with all its values. @returns the chunk before, when it had no room for it. */
  encode(block: Block, group: Group): Chunk | undefined {
    const { words, bytes } = block;
    const { first } = group;
    const full = this.#begin(block, group, 4 + group.valueBytes);
    const buffer = this.#buffer;
    let to = this.#writeInt32(this.#used, group.count);
    for (let at = first; at !== NO_RECORD; at = words[at + HASH] as number) {
      const start = this.#valueStart(words, at);
      const end = start + (words[at + VALUE_LENGTH] as number);
      bytes.copy(buffer, to, start, end);
      to += end - start;
    }
    this.#used = to;
    return full;
  }

  /** Calls back with the place of each of the group's values. */
  async eachValue(
    block: Block,
    group: Group,
    visit: (start: number, end: number) => Promise<void> | void,
  ): Promise<void> {
    const { words } = block;
    for (let at = group.first; at !== NO_RECORD; at = words[at + HASH] as number) {
      const start = this.#valueStart(words, at);
      const wait = visit(start, start + (words[at + VALUE_LENGTH] as number));
      if (wait !== undefined) await wait;
    }
  }

  /** Writes a group whose values are read through state. @returns as `encode`. */
  encodeToken(block: Block, group: Group, token: Uint8Array): Chunk | undefined {
    const full = this.#begin(block, group, tokenFormBytes(token));
    this.#writeToken(token);
    return full;
  }

  /** As `encodeToken`, for a group that is in no block. */
  encodeTokenOf(group: Group, key: Uint8Array, token: Uint8Array): Chunk | undefined {
    const full = this.#makeRoom(this.#prefixBytes(group, key.length) + tokenFormBytes(token));
    this.#writePrefix(group, key, 0, key.length);
    this.#writeToken(token);
    return full;
  }

  /** Writes a group whose values, `valueBytes` in all, come in pieces. @returns as `encode`. */
  async encodePieces(group: Group, key: Uint8Array, pieces: AsyncIterable<Uint8Array>): Promise<Chunk | undefined> {
    const full = this.#makeRoom(this.#prefixBytes(group, key.length) + 4 + group.valueBytes);
    this.#writePrefix(group, key, 0, key.length);
    let to = this.#writeInt32(this.#used, group.count);
    for await (const piece of pieces) {
      this.#buffer.set(piece, to);
      to += piece.length;
    }
    this.#used = to;
    return full;
  }

  /** What has been written since the last chunk; undefined when that is nothing. */
  finish(): Chunk | undefined {
    if (this.#elementCount === 0) return undefined;
    const written = this.#buffer.subarray(0, this.#used);
    // A chunk may be kept for long: it does not keep a buffer that is mostly empty.
    const data = this.#used * 2 < this.#buffer.length ? new Uint8Array(written) : written;
    const chunk = { data, elementCount: this.#elementCount };
    this.#buffer = Buffer.alloc(0);
    this.#used = 0;
    this.#elementCount = 0;
    return chunk;
  }

  #valueStart(words: Int32Array, at: number): number {
    return (at << 2) + this.#headerBytes + (words[at + WINDOW_LENGTH] as number) + (words[at + KEY_LENGTH] as number);
  }

  #begin(block: Block, group: Group, iterableBytes: number): Chunk | undefined {
    const { words, bytes } = block;
    const { first } = group;
    const keyLength = words[first + KEY_LENGTH] as number;
    const keyStart = (first << 2) + this.#headerBytes + (words[first + WINDOW_LENGTH] as number);
    const full = this.#makeRoom(this.#prefixBytes(group, keyLength) + iterableBytes);
    this.#writePrefix(group, bytes, keyStart, keyStart + keyLength);
    return full;
  }

  #prefixBytes(group: Group, keyLength: number): number {
    return TIMESTAMP_BYTES + 4 + (group.windowEnd - group.windowStart) + 1 + keyLength;
  }

  #makeRoom(byteLength: number): Chunk | undefined {
    if (this.#used + byteLength <= this.#buffer.length) {
      this.#elementCount++;
      return undefined;
    }
    if (byteLength > MAX_ELEMENT_BYTES)
      throw new WeirError({
        code: "RESOURCE_EXHAUSTED",
        domain: "user",
        message: `A GroupByKey has a group of ${byteLength} bytes, more than one element can have.`,
        hint: "Its consumer's SDK must read large groups through state (state-backed iterables); or combine, or split the key.",
      });
    const full = this.finish();
    const { chunkBytes, expectedBytes } = this.#init;
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(byteLength, Math.min(chunkBytes, expectedBytes())));
    this.#elementCount++;
    return full;
  }

  #writePrefix(group: Group, keySource: Uint8Array, keyStart: number, keyEnd: number): void {
    const { windows, windowStart, windowEnd } = group;
    const buffer = this.#buffer;
    this.#writeTimestamp(group);
    let to = this.#writeInt32(this.#used + TIMESTAMP_BYTES, 1);
    for (let from = windowStart; from < windowEnd; from++) buffer[to++] = windows[from] as number;
    buffer[to++] = ON_TIME_AND_ONLY_PANE;
    for (let from = keyStart; from < keyEnd; from++) buffer[to++] = keySource[from] as number;
    this.#used = to;
  }

  #writeTimestamp(group: Group): void {
    const buffer = this.#buffer;
    const at = this.#used;
    if (!this.#init.endOfWindow) {
      this.#writeInt32(this.#writeInt32(at, group.timestampHigh), group.timestampLow);
      return;
    }
    const isGlobal = this.#init.windowForm === "global";
    const source = isGlobal ? this.#endOfGlobalWindow : group.windows;
    const start = isGlobal ? 0 : group.windowStart;
    for (let index = 0; index < TIMESTAMP_BYTES; index++) buffer[at + index] = source[start + index] as number;
    if (this.#init.windowForm === "interval") decrementTimestamp(buffer, at);
  }

  /** @returns the position after it */
  #writeInt32(at: number, value: number): number {
    const buffer = this.#buffer;
    buffer[at] = value >>> 24;
    buffer[at + 1] = value >>> 16;
    buffer[at + 2] = value >>> 8;
    buffer[at + 3] = value;
    return at + 4;
  }

  #writeToken(token: Uint8Array): void {
    const buffer = this.#buffer;
    let at = this.#writeInt32(this.#used, -1);
    buffer.fill(0xff, at, at + MINUS_ONE_VARINT_BYTES - 1);
    at += MINUS_ONE_VARINT_BYTES - 1;
    buffer[at++] = 1;
    at = writeVarint(buffer, at, token.length);
    buffer.set(token, at);
    this.#used = at + token.length;
  }
}

function tokenFormBytes(token: Uint8Array): number {
  return 4 + MINUS_ONE_VARINT_BYTES + varintLength(token.length) + token.length;
}
