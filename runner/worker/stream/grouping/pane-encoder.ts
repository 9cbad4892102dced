/**
 * Writes panes as encoded windowed_value<kv<K, iterable<V>>> into chunks: timestamp, one window, pane info, key, the
 * number of values in four bytes, the values. The same bytes are right under state_backed_iterable: a count that is
 * not negative says that all values follow.
 */
import type { Chunk } from "../../../base/chunk.ts";
import { WeirError } from "../../../base/errors.ts";
import { MAX_ELEMENT_BYTES } from "../../../base/limits.ts";
import { TIMESTAMP_BYTES } from "../../../time/timestamp.ts";
import type { WindowGroup } from "./window-group.ts";

const FIRST_CHUNK_BYTES = 4096;

export class PaneEncoder {
  readonly #chunkBytes: number;
  #chunks: Chunk[] = [];
  #buffer: Buffer = Buffer.alloc(0);
  #used = 0;
  #elementCount = 0;
  #finishedBytes = 0;

  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes;
  }

  /**
   * @param writeTimestamp writes the pane's timestamp at the position
   * @param pane its encoded pane info
   */
  add(group: WindowGroup, writeTimestamp: (bytes: Uint8Array, at: number) => void, pane: Uint8Array): void {
    const { id, windowLength, values } = group;
    const byteLength = TIMESTAMP_BYTES + 4 + id.length + pane.length + 4 + values.byteLength;
    this.#makeRoom(byteLength);
    const buffer = this.#buffer;
    let at = this.#used;
    writeTimestamp(buffer, at);
    at = buffer.writeInt32BE(1, at + TIMESTAMP_BYTES);
    for (let index = 0; index < windowLength; index++) buffer[at++] = id[index] as number;
    for (let index = 0; index < pane.length; index++) buffer[at++] = pane[index] as number;
    for (let index = windowLength; index < id.length; index++) buffer[at++] = id[index] as number;
    at = buffer.writeInt32BE(values.valueCount, at);
    this.#used = values.copyTo(buffer, at);
    this.#elementCount++;
  }

  /** Of what has been written since the last `take`. */
  get byteLength(): number {
    return this.#finishedBytes + this.#used;
  }

  /** What has been written since the last call. */
  take(): Chunk[] {
    this.#finishChunk();
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#finishedBytes = 0;
    return chunks;
  }

  #makeRoom(byteLength: number): void {
    if (this.#used + byteLength <= this.#buffer.length) return;
    if (byteLength > MAX_ELEMENT_BYTES)
      throw new WeirError({
        code: "RESOURCE_EXHAUSTED",
        domain: "user",
        message: `A GroupByKey has a pane of ${byteLength} bytes, more than one element can have.`,
        hint: "Combine instead of grouping, split the key, or let panes fire more often in discarding mode.",
      });
    const written = this.#used;
    // A chunk may be kept for long: small output takes small chunks, much output takes full ones.
    const larger = Math.min(this.#chunkBytes, Math.max(FIRST_CHUNK_BYTES, this.#buffer.length * 4));
    if (written > 0 && written + byteLength <= larger) {
      const grown = Buffer.allocUnsafeSlow(larger);
      this.#buffer.copy(grown, 0, 0, written);
      this.#buffer = grown;
      return;
    }
    const isLarge = this.#buffer.length >= this.#chunkBytes;
    this.#finishChunk();
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(byteLength, isLarge ? this.#chunkBytes : larger));
  }

  #finishChunk(): void {
    if (this.#elementCount > 0) {
      const written = this.#buffer.subarray(0, this.#used);
      const data = this.#used * 2 < this.#buffer.length ? new Uint8Array(written) : written;
      this.#chunks.push({ data, elementCount: this.#elementCount });
      this.#finishedBytes += data.length;
    }
    this.#buffer = Buffer.alloc(0);
    this.#used = 0;
    this.#elementCount = 0;
  }
}
