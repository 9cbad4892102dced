/**
 * Groups bounded input by key and window. Input is distributed by hash into partitions as it arrives, each contiguous
 * and small enough for the processor's caches; then partition by partition is grouped and encoded. Past the memory
 * budget partitions go to spill files; one that is larger than memory alone is distributed again, or, where it is one
 * key, streamed.
 *
 * Invariants: no object per element; memory stays within about twice the budget, whatever the size of the input, of a
 * key or of a group; values of a group keep the order in which they came (sessions: of those in one merged window).
 * Not responsible for triggers: every group is emitted once, when all input is there.
 */
import { assert } from "../../base/assert.ts";
import type { Chunk } from "../../base/chunk.ts";
import { WeirError } from "../../base/errors.ts";
import { KeyedLayout, newKeyedPositions } from "../../coders/key-slice.ts";
import type { CoderTable, WindowingSpec } from "../../graph/execution-graph.ts";
import { readUint32 } from "../../time/timestamp.ts";
import { GroupEncoder, type Group, type WindowForm } from "./group-encoder.ts";
import { GroupIndex } from "./group-index.ts";
import { type LargeGroupPage, LargeGroups } from "./large-groups.ts";
import { KeyWindowMerger, type MergeWindows } from "./merge-windows-of-key.ts";
import { OversizedPartition } from "./oversized-partition.ts";
import { recordHash } from "./record-hash.ts";
import { type Block, BlockPool, newBlock, type RecordPartition } from "./record-partition.ts";
import { RecordPartitioner } from "./record-partitioner.ts";

export interface GroupByKeyTableInit {
  readonly coders: CoderTable;
  /** windowed_value<kv<K, V>> */
  readonly inputCoderId: string;
  /** windowed_value<kv<K, iterable<V>>>, of the same K, V and window coder. */
  readonly outputCoderId: string;
  readonly windowing: WindowingSpec;
  /** Whether the consumer can read a group's values through state. */
  readonly stateBacked: boolean;
  readonly memoryBudgetBytes: number;
  /** Groups whose values are larger are read through state, where `stateBacked`. */
  readonly stateBackedIterableBytes: number;
  /** Of values that are read through state: what is read at once, so that no page is put together from others. */
  readonly pageBytes: number;
  readonly chunkBytes: number;
  readonly spillDirectory: string;
  /** Merges the windows of a custom merging WindowFn; sessions need none. */
  readonly mergeWindows?: MergeWindows;
}

const SESSION_WINDOWS_URN = "beam:window_fn:session_windows:v1";
const MAX_BLOCK_BYTES = 64 * 1024;
const MIN_BLOCK_BYTES = 512;
/** Of the budget: a loaded partition needs an index beside it. */
const LOADED_FRACTION = 0.75;
/** A single group that is read through state anyway is not worth a copy of it in one block from here on. */
const STREAMED_BYTES = 1024 * 1024;
/** Whatever the budget: word indices of a loaded partition are 32-bit numbers, its byte positions too. */
const MAX_LOADED_BYTES = 1024 * 1024 * 1024;

export class GroupByKeyTable {
  readonly #init: GroupByKeyTableInit;
  readonly #layout: KeyedLayout;
  readonly #positions = newKeyedPositions();
  readonly #keepTimestamps: boolean;
  readonly #pool: BlockPool;
  readonly #partitioner: RecordPartitioner;
  readonly #index: GroupIndex;
  readonly #encoder: GroupEncoder;
  readonly #merger: KeyWindowMerger;
  readonly #oversized: OversizedPartition;
  readonly #largeGroups: LargeGroups;
  readonly #open = new Set<RecordPartitioner>();
  readonly #loadedBytesLimit: number;
  #scratch: Block = newBlock(0);
  #inputBytes = 0;
  #isGrouping = false;

  private constructor(init: GroupByKeyTableInit) {
    const { windowing, memoryBudgetBytes, spillDirectory, mergeWindows } = init;
    this.#init = init;
    this.#layout = new KeyedLayout(init.coders, init.inputCoderId);
    const keepTimestamps = windowing.timestampCombiner !== "END_OF_WINDOW";
    const latest = windowing.timestampCombiner === "LATEST_IN_PANE";
    this.#keepTimestamps = keepTimestamps;
    this.#loadedBytesLimit = Math.min(MAX_LOADED_BYTES, Math.floor(memoryBudgetBytes * LOADED_FRACTION));
    const blockBytes = Math.min(
      MAX_BLOCK_BYTES,
      Math.max(MIN_BLOCK_BYTES, 2 ** Math.floor(Math.log2(memoryBudgetBytes / 256))),
    );
    this.#pool = new BlockPool(blockBytes);
    const partitioning = { pool: this.#pool, keepTimestamps, spillDirectory };
    this.#partitioner = new RecordPartitioner({ ...partitioning, memoryBudgetBytes, level: 0 });
    this.#open.add(this.#partitioner);
    this.#index = new GroupIndex({ keepTimestamps, latest });
    this.#encoder = new GroupEncoder({
      windowForm: windowFormOf(init.coders, this.#layout.windowed.windowCoderId),
      endOfWindow: !keepTimestamps,
      keepTimestamps,
      chunkBytes: init.chunkBytes,
      expectedBytes: () => this.#inputBytes,
    });
    this.#merger = new KeyWindowMerger({ keepTimestamps, latest, mergeWindows });
    this.#largeGroups = new LargeGroups(
      spillDirectory,
      init.pageBytes,
      () => memoryBudgetBytes - this.#partitioner.memoryBytes - this.#scratch.bytes.length,
    );
    this.#oversized = new OversizedPartition({
      keepTimestamps,
      latest,
      largeGroups: this.#largeGroups,
      mergeWindows,
      partitioner: { ...partitioning, memoryBudgetBytes: Math.floor(memoryBudgetBytes / 2) },
    });
  }

  /** @throws WeirError naming the coder or WindowFn that it cannot handle. */
  static async open(init: GroupByKeyTableInit): Promise<GroupByKeyTable> {
    const { merging, windowFnUrn } = init.windowing;
    if (merging && init.mergeWindows === undefined && windowFnUrn !== SESSION_WINDOWS_URN)
      throw new WeirError({
        code: "UNIMPLEMENTED",
        domain: "internal",
        message: `Windows of the merging WindowFn ${windowFnUrn} are grouped, but nothing was given that merges them.`,
      });
    return new GroupByKeyTable(init);
  }

  /**
   * Adds whole encoded elements; the chunk is not kept.
   * @returns a promise while it spills: nothing may be added, or grouped, before it is done.
   * @throws WeirError DATA_LOSS for malformed bytes, RESOURCE_EXHAUSTED when the spill directory is full
   */
  add(chunk: Chunk): Promise<void> | void {
    assert(!this.#isGrouping, "input comes before groups");
    const { data } = chunk;
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const positions = this.#positions;
    const { header } = positions;
    const { merging } = this.#init.windowing;
    const layout = this.#layout;
    const { windowSkip } = layout.windowed;
    const partitioner = this.#partitioner;
    let timestampHigh = 0;
    let timestampLow = 0;
    for (let at = 0; at < bytes.length;) {
      const end = layout.read(bytes, at, positions);
      const { keyEnd } = positions;
      const { valueStart: keyStart, windowsEnd } = header;
      if (this.#keepTimestamps) {
        timestampHigh = readUint32(bytes, at);
        timestampLow = readUint32(bytes, at + 4);
      }
      // An element in several windows is as many elements in one window each.
      let windowStart = header.windowsStart;
      for (let left = header.windowCount; left > 0; left--) {
        const windowEnd = left === 1 ? windowsEnd : windowSkip(bytes, windowStart);
        const hash = recordHash(bytes, windowStart, merging ? windowStart : windowEnd, bytes, keyStart, keyEnd);
        partitioner.add(hash, bytes, windowStart, windowEnd, bytes, keyStart, keyEnd, end, timestampHigh, timestampLow);
        windowStart = windowEnd;
      }
      at = end;
    }
    this.#inputBytes += bytes.length;
    return partitioner.relieve();
  }

  /**
   * The groups, encoded with the output coder, in chunks of about `chunkBytes`; a larger group is a chunk of its own.
   * Once, after all input. @throws WeirError as `add`, or what merging windows throws.
   */
  async *groups(): AsyncGenerator<Chunk> {
    assert(!this.#isGrouping, "groups are read once");
    this.#isGrouping = true;
    yield* this.#groupAll(this.#partitioner, this.#init.windowing.merging);
    const last = this.#encoder.finish();
    if (last !== undefined) yield last;
  }

  async *#groupAll(partitioner: RecordPartitioner, merging: boolean): AsyncGenerator<Chunk> {
    this.#open.add(partitioner);
    await partitioner.seal();
    for (const partition of partitioner.partitions) {
      if (partition.recordCount === 0) continue;
      if (partition.byteLength <= this.#loadedBytesLimit && !this.#isStreamed(partition, merging))
        yield* this.#groupLoaded(partition, merging);
      else if (!partition.isSingleHash)
        yield* this.#groupAll(await this.#oversized.distribute(partition, partitioner.level + 1), merging);
      else if (merging) yield* this.#groupAll(await this.#oversized.merge(partition), false);
      else yield* this.#groupStreamed(partition);
    }
    await partitioner.close();
    this.#open.delete(partitioner);
  }

  #isStreamed({ isSingleHash, byteLength }: RecordPartition, merging: boolean): boolean {
    return isSingleHash && !merging && this.#init.stateBacked && byteLength > STREAMED_BYTES;
  }

  async *#groupLoaded(partition: RecordPartition, merging: boolean): AsyncGenerator<Chunk> {
    const block = await partition.load(this.#scratch);
    this.#pool.clear();
    // Tiny blocks are not worth keeping: the next partition may bring its own.
    if (block.bytes.length > this.#scratch.bytes.length) this.#scratch = block;
    const index = this.#index;
    index.build(block, merging);
    const group = newGroup(block);
    const { stateBacked } = this.#init;
    const inlineBytes = stateBacked ? this.#init.stateBackedIterableBytes : Number.POSITIVE_INFINITY;
    for (let number = 0; number < index.groupCount; number++) {
      index.read(number, block, group);
      if (merging) {
        for (const merged of await this.#merger.merge(block, group)) {
          const full =
            merged.valueBytes > inlineBytes
              ? await this.#encodeLarge(block, merged)
              : this.#encoder.encode(block, merged);
          if (full !== undefined) yield full;
        }
        continue;
      }
      const full =
        group.valueBytes > inlineBytes ? await this.#encodeLarge(block, group) : this.#encoder.encode(block, group);
      if (full !== undefined) yield full;
    }
  }

  async #encodeLarge(block: Block, group: Group): Promise<Chunk | undefined> {
    const writer = this.#largeGroups.begin(group.valueBytes);
    await this.#encoder.eachValue(block, group, (start, end) => writer.add(block.bytes, start, end));
    await writer.finish();
    return this.#encoder.encodeToken(block, group, writer.token);
  }

  async *#groupStreamed(partition: RecordPartition): AsyncGenerator<Chunk> {
    const { stateBacked, stateBackedIterableBytes } = this.#init;
    for (const { group, key, token } of await this.#oversized.stream(partition)) {
      // Not by the partition's size: each of its records has the key, which may be most of it.
      const full =
        stateBacked && group.valueBytes > stateBackedIterableBytes
          ? this.#encoder.encodeTokenOf(group, key, token)
          : await this.#encoder.encodePieces(group, key, this.#largeGroups.pages(token));
      if (full !== undefined) yield full;
    }
  }

  /**
   * A page of the values behind a token of the output: whole encoded values, at least one and about `pageBytes`.
   * @param continuation empty for the first page, then what the page before returned
   * @returns an empty continuation with the last page. @throws WeirError NOT_FOUND for a token that is not from here.
   */
  readLargeGroup(token: Uint8Array, continuation: Uint8Array, pageBytes: number): Promise<LargeGroupPage> {
    return this.#largeGroups.read(token, continuation, pageBytes);
  }

  /** Frees memory and spill files; tokens are void then. Idempotent. */
  async close(): Promise<void> {
    this.#isGrouping = true;
    this.#scratch = newBlock(0);
    const open = [...this.#open];
    this.#open.clear();
    await Promise.all([...open.map((partitioner) => partitioner.close()), this.#largeGroups.close()]);
  }
}

function newGroup({ bytes }: Block): Group {
  return {
    windows: bytes,
    windowStart: 0,
    windowEnd: 0,
    first: 0,
    count: 0,
    valueBytes: 0,
    timestampHigh: 0,
    timestampLow: 0,
  };
}

function windowFormOf(coders: CoderTable, windowCoderId: string): WindowForm {
  const urn = coders[windowCoderId]?.urn;
  switch (urn) {
    case "beam:coder:global_window:v1":
      return "global";
    case "beam:coder:interval_window:v1":
      return "interval";
    case "beam:coder:custom_window:v1":
      return "max-timestamp-first";
    default:
      throw new WeirError({
        code: "UNIMPLEMENTED",
        domain: "internal",
        message: `Windows encoded with "${windowCoderId}" (${urn ?? "not defined"}) do not tell their maximum timestamp.`,
        hint: "A custom window must be wrapped in beam:coder:custom_window:v1.",
      });
  }
}
