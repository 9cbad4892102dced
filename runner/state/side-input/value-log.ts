/**
 * The bytes of a side input's values, one after the other in blocks. Past the budget the oldest blocks go to a spill
 * file; a position stays what it is.
 *
 * Invariants: a value lies in one block; the positions of two blocks never touch, so that a run of values that follow
 * each other never crosses a block's end. What was appended does not change.
 */
import { assert } from "../../base/assert.ts";
import { WeirError } from "../../base/errors.ts";
import type { MemoryBudget, Spillable, SpillableSource } from "../memory-budget.ts";
import type { SpillFile } from "../spill-file.ts";

interface LogBlock {
  readonly start: number;
  byteLength: number;
  /** The bytes, in the first `byteLength` of it; undefined when they are in the file. */
  data: Uint8Array | undefined;
  fileOffset: number;
  chargedBytes: number;
}

/** Bytes of the log. */
export interface LogRange {
  readonly offset: number;
  readonly byteLength: number;
}

const FIRST_BLOCK_BYTES = 4 * 1024;
const BLOCK_BYTES = 1024 * 1024;

export class ValueLog implements Spillable, SpillableSource {
  readonly #budget: MemoryBudget;
  readonly #openFile: () => Promise<SpillFile>;
  readonly #blocks: LogBlock[] = [];
  #firstResident = 0;
  #complete = false;
  #spilling = false;
  #dropped = false;
  #file: SpillFile | undefined;

  constructor(budget: MemoryBudget, openFile: () => Promise<SpillFile>) {
    this.#budget = budget;
    this.#openFile = openFile;
    budget.add(this);
  }

  spillables(): Iterable<Spillable> {
    return [this];
  }

  /** The last block is not spilled while it grows. */
  get #spillEnd(): number {
    return this.#complete ? this.#blocks.length : this.#blocks.length - 1;
  }

  get spillableBytes(): number {
    if (this.#spilling) return 0;
    let bytes = 0;
    for (let at = this.#firstResident; at < this.#spillEnd; at++) bytes += (this.#blocks[at] as LogBlock).chargedBytes;
    return bytes;
  }

  /** Copies `bytes` from `start` to `end`. @returns the position at which they can be read. */
  append(bytes: Uint8Array, start: number, end: number): number {
    const byteLength = end - start;
    let block = this.#blocks.at(-1);
    if (block?.data === undefined || block.byteLength + byteLength > block.data.byteLength)
      block = this.#addBlock(byteLength);
    const offset = block.start + block.byteLength;
    const target = block.data as Uint8Array;
    if (byteLength < 32)
      for (let at = 0; at < byteLength; at++) target[block.byteLength + at] = bytes[start + at] as number;
    else target.set(bytes.subarray(start, end), block.byteLength);
    block.byteLength += byteLength;
    return offset;
  }

  #addBlock(leastBytes: number): LogBlock {
    const last = this.#blocks.at(-1);
    const size = Math.min(BLOCK_BYTES, Math.max(FIRST_BLOCK_BYTES, 2 * (last?.byteLength ?? 0)));
    const data = new Uint8Array(Buffer.allocUnsafeSlow(Math.max(size, leastBytes)).buffer);
    const start = last === undefined ? 0 : last.start + last.byteLength + 1;
    const block: LogBlock = { start, byteLength: 0, data, fileOffset: -1, chargedBytes: data.byteLength };
    this.#blocks.push(block);
    this.#budget.reserve(data.byteLength);
    return block;
  }

  /** Nothing is appended any more. */
  complete(): void {
    this.#complete = true;
  }

  async spill(bytes: number): Promise<void> {
    this.#spilling = true;
    try {
      let freedBytes = 0;
      while (freedBytes < bytes && this.#firstResident < this.#spillEnd && !this.#dropped) {
        const block = this.#blocks[this.#firstResident] as LogBlock;
        this.#file ??= await this.#openFile();
        if (this.#dropped) break;
        block.fileOffset = await this.#file.append([(block.data as Uint8Array).subarray(0, block.byteLength)]);
        if (this.#dropped) break;
        block.data = undefined;
        this.#budget.release(block.chargedBytes);
        freedBytes += block.chargedBytes;
        this.#firstResident++;
      }
    } catch (failure) {
      // A file that was closed under a write that nobody wants any more.
      if (!this.#dropped) throw failure;
    } finally {
      this.#spilling = false;
    }
    if (this.#dropped) await this.#file?.close();
  }

  #blockAt(offset: number): number {
    let low = 0;
    let high = this.#blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#blocks[middle] as LogBlock).start <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /**
   * The bytes of each range; a promise where the disk is needed. Ranges of a block that follow each other in the list
   * cost one read together.
   */
  read(ranges: readonly LogRange[]): readonly Uint8Array[] | Promise<readonly Uint8Array[]> {
    const parts: Uint8Array[] = [];
    for (const { offset, byteLength } of ranges) {
      const block = this.#blocks[this.#blockAt(offset)];
      if (block?.data === undefined) return this.#readSpilled(ranges);
      parts.push(block.data.subarray(offset - block.start, offset - block.start + byteLength));
    }
    return parts;
  }

  async #readSpilled(ranges: readonly LogRange[]): Promise<readonly Uint8Array[]> {
    const parts: Uint8Array[] = [];
    for (let first = 0; first < ranges.length;) {
      const blockIndex = this.#blockAt((ranges[first] as LogRange).offset);
      const block = this.#blocks[blockIndex] as LogBlock;
      let low = Number.POSITIVE_INFINITY;
      let high = 0;
      let end = first;
      for (; end < ranges.length; end++) {
        const { offset, byteLength } = ranges[end] as LogRange;
        if (this.#blockAt(offset) !== blockIndex) break;
        low = Math.min(low, offset - block.start);
        high = Math.max(high, offset - block.start + byteLength);
      }
      const bytes = await this.#readBlock(block, low, high);
      for (; first < end; first++) {
        const { offset, byteLength } = ranges[first] as LogRange;
        parts.push(bytes.subarray(offset - block.start - low, offset - block.start - low + byteLength));
      }
    }
    return parts;
  }

  async #readBlock(block: LogBlock, low: number, high: number): Promise<Uint8Array> {
    if (this.#dropped)
      throw new WeirError({ code: "ABORTED", domain: "internal", message: "The side input was released." });
    if (block.data !== undefined) return block.data.subarray(low, high);
    assert(this.#file !== undefined, "a spilled block has a file");
    return this.#file.read(block.fileOffset + low, high - low);
  }

  /** Lets go of memory and file. Idempotent. */
  async close(): Promise<void> {
    if (!this.#dropped) {
      this.#dropped = true;
      this.#budget.remove(this);
      for (const block of this.#blocks) if (block.data !== undefined) this.#budget.release(block.chargedBytes);
    }
    if (!this.#spilling) await this.#file?.close();
  }
}
