/**
 * Distributes records by bits of their hash over partitions that can each be grouped alone. One level uses seven
 * bits; a partition that is too large for memory is distributed again by the next seven, and a hash that alone is a large
 * part of it gets a partition of its own.
 *
 * Invariant: records with the same hash meet in the same partition, in the order in which they came.
 */
import {
  type Block,
  type BlockPool,
  HASH,
  headerBytesOf,
  KEY_LENGTH,
  recordBytesOf,
  RecordPartition,
  TIMESTAMP_HIGH,
  TIMESTAMP_LOW,
  VALUE_LENGTH,
  WINDOW_LENGTH,
} from "./record-partition.ts";

/** 128 partitions: measured best of 64 to 256 for 1 GB; fewer leave the caches, more have too many places to write. */
const LEVEL_BITS = 7;
const FAN_OUT = 1 << LEVEL_BITS;
/** Records below this many bytes of content tell too little of a partition's heavy hashes. */
const SAMPLE_BYTES = 4 * 1024 * 1024;
/** A hash with more than this part of the sampled bytes is heavy. */
const HEAVY_FRACTION = 1 / 8;

export interface PartitionerInit {
  readonly pool: BlockPool;
  readonly keepTimestamps: boolean;
  readonly spillDirectory: string;
  readonly memoryBudgetBytes: number;
  /** 0 for the input; one more each time that a partition is distributed again. */
  readonly level: number;
  readonly heavyHashes?: readonly number[];
}

export class RecordPartitioner {
  readonly level: number;
  readonly #init: PartitionerInit;
  readonly #headerBytes: number;
  readonly #shift: number;
  readonly #partitions: (RecordPartition | undefined)[] = new Array<RecordPartition | undefined>(FAN_OUT);
  readonly #heavy: ReadonlyMap<number, RecordPartition> | undefined;
  #hasSpilled = false;

  constructor(init: PartitionerInit) {
    this.#init = init;
    this.level = init.level;
    this.#shift = init.level * LEVEL_BITS;
    this.#headerBytes = headerBytesOf(init.keepTimestamps);
    const heavy = init.heavyHashes ?? [];
    if (heavy.length > 0) this.#heavy = new Map(heavy.map((hash) => [hash, this.#open()]));
  }

  #open(): RecordPartition {
    return new RecordPartition(this.#init.pool, this.#headerBytes, this.#init.spillDirectory);
  }

  /** Those that have records, or had. */
  get partitions(): RecordPartition[] {
    const used = this.#partitions.filter((partition) => partition !== undefined);
    return [...(this.#heavy?.values() ?? []), ...used];
  }

  get memoryBytes(): number {
    let bytes = 0;
    for (const partition of this.#partitions) bytes += partition?.memoryBytes ?? 0;
    if (this.#heavy !== undefined) for (const partition of this.#heavy.values()) bytes += partition.memoryBytes;
    return bytes;
  }

  /** Spills where memory is over the budget; nothing may be added before it is done. */
  relieve(): Promise<void> | void {
    if (this.memoryBytes > this.#init.memoryBudgetBytes) return this.#spill();
  }

  /** After the last record: when some have been spilled, spills all, so that memory is free for grouping them. */
  async seal(): Promise<void> {
    if (this.#hasSpilled) await this.#spill();
    this.#init.pool.clear();
  }

  async #spill(): Promise<void> {
    this.#hasSpilled = true;
    for (const partition of this.partitions) await partition.spill();
  }

  #partitionOf(hash: number): RecordPartition {
    const heavy = this.#heavy?.get(hash);
    if (heavy !== undefined) return heavy;
    const index = (hash << this.#shift) >>> (32 - LEVEL_BITS);
    return (this.#partitions[index] ??= this.#open());
  }

  /**
   * Adds a record whose key and value lie one after the other.
   * @param hash as a signed 32-bit number
   */
  add(
    hash: number,
    windows: Uint8Array,
    windowStart: number,
    windowEnd: number,
    source: Buffer,
    keyStart: number,
    keyEnd: number,
    end: number,
    timestampHigh: number,
    timestampLow: number,
  ): void {
    const headerBytes = this.#headerBytes;
    const windowLength = windowEnd - windowStart;
    const recordBytes = recordBytesOf(headerBytes, windowLength + end - keyStart);
    const block = this.#partitionOf(hash).append(hash, recordBytes);
    const start = block.used - recordBytes;
    const { bytes, words } = block;
    const at = start >> 2;
    words[at + HASH] = hash;
    words[at + WINDOW_LENGTH] = windowLength;
    words[at + KEY_LENGTH] = keyEnd - keyStart;
    words[at + VALUE_LENGTH] = end - keyEnd;
    if (this.#init.keepTimestamps) {
      words[at + TIMESTAMP_HIGH] = timestampHigh;
      words[at + TIMESTAMP_LOW] = timestampLow;
    }
    let to = start + headerBytes;
    // Windows are a few bytes: a loop is cheaper than a call.
    for (let from = windowStart; from < windowEnd; from++) bytes[to++] = windows[from] as number;
    source.copy(bytes, to, keyStart, end);
  }

  /** Adds the record at byte `start` of `block`, as it is. */
  addRecord(block: Block, start: number, recordBytes: number): void {
    const hash = block.words[(start >> 2) + HASH] as number;
    const target = this.#partitionOf(hash).append(hash, recordBytes);
    block.bytes.copy(target.bytes, target.used - recordBytes, start, start + recordBytes);
  }

  async close(): Promise<void> {
    await Promise.all(this.partitions.map((partition) => partition.close()));
  }
}

/** Hashes that make up a large part of a partition, by its first few MiB. */
export async function sampleHeavyHashes(
  partition: RecordPartition,
  eachRecord: (block: Block, visit: (at: number, recordBytes: number) => void) => void,
): Promise<number[]> {
  const bytesOf = new Map<number, number>();
  let sampledBytes = 0;
  for await (const block of partition.scan()) {
    eachRecord(block, (at, recordBytes) => {
      const hash = block.words[at + HASH] as number;
      bytesOf.set(hash, (bytesOf.get(hash) ?? 0) + recordBytes);
    });
    sampledBytes += block.used;
    if (sampledBytes >= SAMPLE_BYTES) break;
  }
  return [...bytesOf].filter(([, bytes]) => bytes > sampledBytes * HEAVY_FRACTION).map(([hash]) => hash);
}
