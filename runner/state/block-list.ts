/**
 * A list of blocks, each of whole elements, in memory or in a spill file: what one partition, or one bundle's part of
 * it, consists of. Chunks are taken over without a copy, save small ones, which are packed into blocks of our own: an
 * object for each, and the larger buffer that a slice keeps alive, would cost more than the copy.
 *
 * Invariants: blocks keep their order; a block never changes once it is in a list that is read; spilling a block is
 * invisible to who reads it. Every resident block is counted in the budget of the list that holds it.
 */
import { assert } from "../base/assert.ts";
import type { Chunk } from "../base/chunk.ts";
import type { MemoryBudget, Spillable } from "./memory-budget.ts";

/** Where blocks go when memory runs out. */
export interface SpillTarget {
  append(buffers: readonly Uint8Array[]): Promise<number>;
}

export interface Block {
  /** The bytes, in the first `byteLength` of it; undefined once they are in the file only. */
  data: Uint8Array | undefined;
  /** Where they are in the file, when `data` is undefined. */
  offset: number;
  byteLength: number;
  elementCount: number;
  /** True when `data` is a buffer of our own with room behind the bytes. */
  packed: boolean;
  writing: boolean;
  chargedBytes: number;
  owner: BlockList;
}

const KIB = 1024;
/** Chunks up to this size are packed. */
const SMALL_CHUNK_BYTES = 16 * KIB;
/** A block of packed chunks grows up to this size. */
const PACKED_BLOCK_BYTES = 256 * KIB;
const FIRST_PACKED_BYTES = KIB;
/** What a block costs beside its bytes. */
const BLOCK_OVERHEAD_BYTES = 160;
/** One write of a spill; bounds what is counted twice while it runs. */
const SPILL_WRITE_BYTES = 8 * KIB * KIB;
/** A slice of a buffer this many times its size is copied, lest it keep all of that alive. */
const WORST_SLICE_RATIO = 4;

export class BlockList implements Spillable {
  readonly #budget: MemoryBudget;
  readonly #target: SpillTarget;
  #blocks: Block[] = [];
  #firstResident = 0;
  #spillableBytes = 0;
  #byteLength = 0;
  #elementCount = 0;
  #dropped = false;

  constructor(budget: MemoryBudget, target: SpillTarget) {
    this.#budget = budget;
    this.#target = target;
  }

  get blocks(): readonly Block[] {
    return this.#blocks;
  }

  get byteLength(): number {
    return this.#byteLength;
  }

  get elementCount(): number {
    return this.#elementCount;
  }

  get spillableBytes(): number {
    return this.#spillableBytes;
  }

  /** Takes over the chunk's bytes. The caller looks at the budget's `relief` afterwards. */
  push(chunk: Chunk): void {
    assert(chunk.elementCount >= 0, "a stored chunk knows how many elements it has");
    if (chunk.data.byteLength === 0 && chunk.elementCount === 0) return;
    this.#byteLength += chunk.data.byteLength;
    this.#elementCount += chunk.elementCount;
    if (chunk.data.byteLength <= SMALL_CHUNK_BYTES) this.#pack(chunk);
    else {
      const wasteful = chunk.data.buffer.byteLength > WORST_SLICE_RATIO * chunk.data.byteLength;
      const data = wasteful ? Uint8Array.prototype.slice.call(chunk.data) : chunk.data;
      this.#add(data, data.byteLength, chunk.elementCount, false);
    }
  }

  #pack(chunk: Chunk): void {
    const size = chunk.data.byteLength;
    const tail = this.#blocks.at(-1);
    if (tail?.data !== undefined && tail.packed && !tail.writing && tail.byteLength + size <= PACKED_BLOCK_BYTES) {
      if (tail.byteLength + size > tail.data.byteLength) this.#grow(tail, tail.byteLength + size);
      tail.data.set(chunk.data, tail.byteLength);
      tail.byteLength += size;
      tail.elementCount += chunk.elementCount;
      return;
    }
    const data = new Uint8Array(Buffer.allocUnsafeSlow(Math.max(FIRST_PACKED_BYTES, 2 * size)).buffer);
    data.set(chunk.data);
    this.#add(data, size, chunk.elementCount, true);
  }

  #grow(tail: Block, leastBytes: number): void {
    const old = tail.data as Uint8Array;
    const size = Math.min(PACKED_BLOCK_BYTES, Math.max(leastBytes, 2 * old.byteLength));
    const data = new Uint8Array(Buffer.allocUnsafeSlow(size).buffer);
    data.set(old.subarray(0, tail.byteLength));
    tail.data = data;
    const addedBytes = size - old.byteLength;
    tail.chargedBytes += addedBytes;
    this.#spillableBytes += addedBytes;
    this.#budget.reserve(addedBytes);
  }

  #add(data: Uint8Array, byteLength: number, elementCount: number, packed: boolean): void {
    const chargedBytes = data.byteLength + BLOCK_OVERHEAD_BYTES;
    this.#blocks.push({
      data,
      offset: -1,
      byteLength,
      elementCount,
      packed,
      writing: false,
      chargedBytes,
      owner: this,
    });
    this.#spillableBytes += chargedBytes;
    this.#budget.reserve(chargedBytes);
  }

  /** Appends all blocks to another list, which shares this one's file; this one is empty then. Synchronous. */
  moveTo(other: BlockList): void {
    for (const block of this.#blocks) {
      const { data, writing, byteLength, elementCount } = block;
      if (data !== undefined && !writing && byteLength <= SMALL_CHUNK_BYTES) {
        this.#budget.release(block.chargedBytes);
        other.push({ data: data.subarray(0, byteLength), elementCount });
        continue;
      }
      other.#blocks.push(block);
      other.#byteLength += byteLength;
      other.#elementCount += elementCount;
      block.owner = other;
      if (data === undefined) continue;
      this.#budget.release(block.chargedBytes);
      other.#budget.reserve(block.chargedBytes);
      if (!writing) other.#spillableBytes += block.chargedBytes;
    }
    this.#forget();
  }

  async spill(bytes: number): Promise<void> {
    let freedBytes = 0;
    while (freedBytes < bytes && this.#spillableBytes > 0) {
      const batch = this.#takeBatch(Math.min(bytes - freedBytes, SPILL_WRITE_BYTES));
      for (const block of batch) freedBytes += block.chargedBytes;
      await this.#write(batch);
    }
  }

  /** The oldest resident blocks, marked as being written. */
  #takeBatch(bytes: number): Block[] {
    const batch: Block[] = [];
    let takenBytes = 0;
    let index = this.#firstResident;
    for (; index < this.#blocks.length && takenBytes < bytes; index++) {
      const block = this.#blocks[index] as Block;
      if (block.data === undefined || block.writing) continue;
      block.writing = true;
      takenBytes += block.chargedBytes;
      batch.push(block);
    }
    this.#firstResident = index;
    this.#spillableBytes -= takenBytes;
    return batch;
  }

  async #write(batch: readonly Block[]): Promise<void> {
    const buffers = batch.map((block) => (block.data as Uint8Array).subarray(0, block.byteLength));
    try {
      let offset = await this.#target.append(buffers);
      for (const block of batch) {
        block.offset = offset;
        offset += block.byteLength;
        block.data = undefined;
        block.owner.#budget.release(block.chargedBytes);
      }
    } catch (failure) {
      for (const block of batch) block.owner.#writeFailed(block);
      // What nobody wants any more may fail: its file may be closed already. A batch has one owner, before a move and after.
      if (!batch.every((block) => block.owner.#dropped)) throw failure;
    } finally {
      for (const block of batch) block.writing = false;
    }
  }

  #writeFailed(block: Block): void {
    if (this.#dropped) {
      this.#budget.release(block.chargedBytes);
      return;
    }
    this.#spillableBytes += block.chargedBytes;
    this.#firstResident = 0;
  }

  /** Puts blocks that follow each other in the file into one record each, of at most `maxBytes`. */
  compact(maxBytes: number): void {
    const compacted: Block[] = [];
    for (const block of this.#blocks) {
      const last = compacted.at(-1);
      if (
        block.data === undefined &&
        last !== undefined &&
        last.data === undefined &&
        last.offset + last.byteLength === block.offset &&
        last.byteLength + block.byteLength <= maxBytes
      ) {
        last.byteLength += block.byteLength;
        last.elementCount += block.elementCount;
      } else compacted.push(block);
    }
    this.#blocks = compacted;
    this.#firstResident = 0;
  }

  /** Lets go of everything; nothing can be spilled any more. What is being written is released when that is done. */
  drop(): void {
    this.#dropped = true;
    for (const block of this.#blocks)
      if (block.data !== undefined && !block.writing) this.#budget.release(block.chargedBytes);
    this.#forget();
  }

  #forget(): void {
    this.#blocks = [];
    this.#firstResident = 0;
    this.#spillableBytes = 0;
    this.#byteLength = 0;
    this.#elementCount = 0;
  }
}
