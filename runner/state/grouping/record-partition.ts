/**
 * Records of one hash partition of a grouping's input, in memory blocks and, past the budget, in a spill file.
 *
 * A record is one element in one window: 32-bit words [hash, window length, key length, value length] and, where the
 * output's timestamp depends on the input's, [timestamp high, low]; then the window's, key's and value's bytes, padded
 * to a word. Words are in the machine's order: records never leave the process.
 *
 * Invariants: a record never spans blocks or reads; `append` is not called while `spill` runs.
 */
import { assert } from "../../base/assert.ts";
import { SpillFile } from "../spill-file.ts";

/** Words before a record's bytes. */
export const HASH = 0;
export const WINDOW_LENGTH = 1;
export const KEY_LENGTH = 2;
export const VALUE_LENGTH = 3;
export const TIMESTAMP_HIGH = 4;
export const TIMESTAMP_LOW = 5;
/** In place of the hash, once records of a loaded partition are chained: there is no next record. */
export const NO_RECORD = -1;
const WORDS_WITH_TIMESTAMP = 6;
const WORDS_WITHOUT = 4;

/** Bytes of a record's words. */
export function headerBytesOf(keepTimestamps: boolean): number {
  return 4 * (keepTimestamps ? WORDS_WITH_TIMESTAMP : WORDS_WITHOUT);
}

/** Bytes of a record with its padding. */
export function recordBytesOf(headerBytes: number, contentBytes: number): number {
  return (headerBytes + contentBytes + 3) & ~3;
}

export interface Block {
  readonly bytes: Buffer;
  /** The same memory as words. */
  readonly words: Int32Array<ArrayBuffer>;
  used: number;
}

const FIRST_BLOCK_BYTES = 4 * 1024;
const READ_BYTES = 1024 * 1024;

const EMPTY_BLOCK: Block = { bytes: Buffer.alloc(0), words: new Int32Array(0), used: 0 };

export function newBlock(byteLength: number): Block {
  const bytes = Buffer.allocUnsafeSlow((byteLength + 3) & ~3);
  return { bytes, words: new Int32Array(bytes.buffer), used: 0 };
}

/**
 * Blocks to use again while input arrives: a grouping past its budget would otherwise leave garbage as fast. Once
 * cleared, blocks that are given back are freed at once: memory must not wait for the collector.
 */
export class BlockPool {
  readonly blockBytes: number;
  #free: Block[] = [];
  #keeps = true;

  constructor(blockBytes: number) {
    this.blockBytes = blockBytes;
  }

  take(): Block {
    this.#keeps = true;
    return this.#free.pop() ?? newBlock(this.blockBytes);
  }

  /** Nobody may use the block any more. */
  give(block: Block): void {
    if (!this.#keeps || block.bytes.length !== this.blockBytes) {
      freeBlock(block);
      return;
    }
    block.used = 0;
    this.#free.push(block);
  }

  clear(): void {
    this.#keeps = false;
    for (const block of this.#free.splice(0)) freeBlock(block);
  }
}

function freeBlock({ words }: Block): void {
  words.buffer.transfer(0);
}

export class RecordPartition {
  readonly #pool: BlockPool;
  readonly #headerBytes: number;
  readonly #spillDirectory: string;
  #blocks: Block[] = [];
  #current: Block | undefined;
  #file: SpillFile | undefined;
  #firstHash = 0;
  /** All records in bytes, wherever they are. */
  byteLength = 0;
  recordCount = 0;
  /** Bytes of blocks held. */
  memoryBytes = 0;
  /** True while all records have one hash: splitting by hash would not help. */
  isSingleHash = true;

  constructor(pool: BlockPool, headerBytes: number, spillDirectory: string) {
    this.#pool = pool;
    this.#headerBytes = headerBytes;
    this.#spillDirectory = spillDirectory;
  }

  /** The block that holds the next record, which the caller writes at `used - recordBytes`. */
  append(hash: number, recordBytes: number): Block {
    if (this.recordCount === 0) this.#firstHash = hash;
    else if (hash !== this.#firstHash) this.isSingleHash = false;
    this.recordCount++;
    this.byteLength += recordBytes;
    let block = this.#current;
    if (block === undefined || block.used + recordBytes > block.bytes.length) block = this.#nextBlock(recordBytes);
    block.used += recordBytes;
    return block;
  }

  #nextBlock(recordBytes: number): Block {
    const { blockBytes } = this.#pool;
    const isFirst = this.#blocks.length === 0 && this.#file === undefined;
    let block: Block;
    if (recordBytes > blockBytes) block = newBlock(recordBytes);
    else if (isFirst) block = newBlock(Math.max(recordBytes, Math.min(blockBytes, FIRST_BLOCK_BYTES)));
    else block = this.#pool.take();
    this.memoryBytes += block.bytes.length;
    this.#blocks.push(block);
    this.#current = block;
    return block;
  }

  /** Moves all blocks to the spill file. @throws WeirError RESOURCE_EXHAUSTED naming the directory when it is full. */
  async spill(): Promise<void> {
    if (this.#blocks.length === 0) return;
    const blocks = this.#blocks;
    this.#file ??= await SpillFile.open(this.#spillDirectory, "grouping");
    await this.#file.append(blocks.map(({ bytes, used }) => bytes.subarray(0, used)));
    this.#dropBlocks();
  }

  #dropBlocks(): void {
    for (const block of this.#blocks) this.#pool.give(block);
    this.#blocks = [];
    this.#current = undefined;
    this.memoryBytes = 0;
  }

  /**
   * All records in one block, in the order in which they came; the partition is empty then, and closed.
   * @param scratch used again when it is large enough
   */
  async load(scratch: Block): Promise<Block> {
    const only = this.#blocks[0];
    if (this.#file === undefined && this.#blocks.length === 1 && only !== undefined) {
      this.#blocks = [];
      this.memoryBytes = 0;
      return only;
    }
    const target = scratch.bytes.length >= this.byteLength ? scratch : newBlock(this.byteLength);
    target.used = 0;
    if (this.#file !== undefined) {
      target.used = this.#file.byteLength;
      await this.#file.readInto(target.bytes, 0, 0, target.used);
    }
    for (const { bytes, used } of this.#blocks) {
      bytes.copy(target.bytes, target.used, 0, used);
      target.used += used;
    }
    assert(target.used === this.byteLength, "a partition loads what was appended to it");
    await this.close();
    return target;
  }

  /** The records, some at a time, in order. Blocks are good until the next one, and not the reader's to change. */
  async *scan(): AsyncGenerator<Block> {
    const file = this.#file;
    if (file !== undefined) {
      let read = newBlock(READ_BYTES);
      for (let offset = 0; offset < file.byteLength; offset += read.used) {
        const byteLength = Math.min(read.bytes.length, file.byteLength - offset);
        await file.readInto(read.bytes, 0, offset, byteLength);
        const { end, nextBytes } = this.#wholeRecords(read.words, byteLength);
        read.used = end;
        if (end === 0) {
          // A record larger than what was read: read again, all of it.
          read = newBlock(nextBytes);
          await file.readInto(read.bytes, 0, offset, nextBytes);
          read.used = nextBytes;
        }
        yield read;
      }
    }
    for (const block of this.#blocks) yield block;
  }

  /** As `scan`, for the last time: blocks are freed as they have been read. The partition is empty then, and closed. */
  async *drain(): AsyncGenerator<Block> {
    if (this.#file === undefined) {
      const blocks = this.#blocks;
      this.#blocks = [];
      this.#current = undefined;
      for (const [index, block] of blocks.entries()) {
        yield block;
        this.memoryBytes -= block.bytes.length;
        this.#pool.give(block);
        blocks[index] = EMPTY_BLOCK;
      }
    } else yield* this.scan();
    await this.close();
  }

  /** Where the last whole record ends, and the bytes that the one after it has, as far as known. */
  #wholeRecords(words: Int32Array, byteLength: number): { end: number; nextBytes: number } {
    let end = 0;
    while (end + this.#headerBytes <= byteLength) {
      const at = end >> 2;
      const recordBytes = recordBytesOf(this.#headerBytes, contentBytesOf(words, at));
      if (end + recordBytes > byteLength) return { end, nextBytes: recordBytes };
      end += recordBytes;
    }
    return { end, nextBytes: READ_BYTES };
  }

  /** Drops the records and frees the file's space. Idempotent. */
  async close(): Promise<void> {
    this.#dropBlocks();
    this.byteLength = 0;
    this.recordCount = 0;
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}

/** Bytes of the window, key and value of the record whose words begin at `at`. */
export function contentBytesOf(words: Int32Array, at: number): number {
  return (
    (words[at + WINDOW_LENGTH] as number) + (words[at + KEY_LENGTH] as number) + (words[at + VALUE_LENGTH] as number)
  );
}
