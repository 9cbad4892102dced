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
  readonly words: Int32Array;
  used: number;
}

const FIRST_BLOCK_BYTES = 4 * 1024;
const READ_BYTES = 1024 * 1024;

export function newBlock(byteLength: number): Block {
  const bytes = Buffer.allocUnsafeSlow((byteLength + 3) & ~3);
  return { bytes, words: new Int32Array(bytes.buffer), used: 0 };
}

/** Blocks to use again: a grouping past its budget would otherwise leave garbage as fast as input arrives. */
export class BlockPool {
  readonly blockBytes: number;
  #free: Block[] = [];

  constructor(blockBytes: number) {
    this.blockBytes = blockBytes;
  }

  take(): Block {
    return this.#free.pop() ?? newBlock(this.blockBytes);
  }

  give(block: Block): void {
    if (block.bytes.length !== this.blockBytes) return;
    block.used = 0;
    this.#free.push(block);
  }

  clear(): void {
    this.#free = [];
  }
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
    const spilledBytes = this.#file?.byteLength ?? 0;
    for (let offset = 0; offset < spilledBytes; offset += READ_BYTES) {
      const piece = await this.#read(offset, Math.min(READ_BYTES, spilledBytes - offset));
      target.bytes.set(piece, target.used);
      target.used += piece.length;
    }
    for (const { bytes, used } of this.#blocks) {
      bytes.copy(target.bytes, target.used, 0, used);
      target.used += used;
    }
    assert(target.used === this.byteLength, "a partition loads what was appended to it");
    await this.close();
    return target;
  }

  /** The records, some at a time, in order. Blocks are the reader's to change, and good until the next one. */
  async *scan(): AsyncGenerator<Block> {
    const spilledBytes = this.#file?.byteLength ?? 0;
    let wantedBytes = READ_BYTES;
    for (let offset = 0; offset < spilledBytes;) {
      const bytes = await this.#read(offset, Math.min(wantedBytes, spilledBytes - offset));
      const words = new Int32Array(bytes.buffer, 0, bytes.length >> 2);
      const { end, nextBytes } = this.#wholeRecords(words, bytes.length);
      // A record larger than what was read: read again, all of it.
      wantedBytes = end === 0 ? nextBytes : READ_BYTES;
      offset += end;
      if (end > 0) yield { bytes, words, used: end };
    }
    for (const block of this.#blocks) yield block;
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

  async #read(offset: number, byteLength: number): Promise<Buffer> {
    const file = this.#file;
    assert(file !== undefined, "only a spilled partition is read from disk");
    return (await file.read(offset, byteLength)) as Buffer;
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
