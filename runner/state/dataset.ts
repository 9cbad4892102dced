/**
 * One dataset as one task attempt writes it: its partitions, the tentative segments of its running bundles, and the
 * spill file that they share, so that committing a segment moves records and no bytes.
 *
 * Invariants: nothing of a segment is visible before its commit, all of it afterwards, in the order of commits; a
 * dataset is read only when sealed; a reader of a dataset that is dropped gets an error, never an early end.
 */
import { assert, present } from "../base/assert.ts";
import type { Chunk } from "../base/chunk.ts";
import { WeirError } from "../base/errors.ts";
import { type Block, BlockList } from "./block-list.ts";
import type { MemoryBudget, SpillableSource } from "./memory-budget.ts";
import type { SpillFile } from "./spill-file.ts";

/** A partition of a sealed dataset. */
export interface StoredPartition {
  readonly index: number;
  readonly byteLength: number;
  readonly elementCount: number;
}

export interface DatasetInit {
  /** For messages. */
  readonly name: string;
  readonly partitions: number;
  /** Counts committed bytes, and those of segments that run. */
  readonly partitionBudget: MemoryBudget;
  readonly bundleBudget: MemoryBudget;
  openSpillFile(): Promise<SpillFile>;
  onDiscard(): void;
}

const KIB = 1024;
/** Chunks in memory are joined up to this size when read. */
const JOINED_CHUNK_BYTES = 256 * KIB;
/** Blocks that lie together in the file are read together up to this size. */
const FILE_READ_BYTES = 1024 * KIB;

export class Dataset implements SpillableSource {
  readonly #init: DatasetInit;
  readonly #partitions: readonly BlockList[];
  readonly #segments = new Set<Segment>();
  #file: Promise<SpillFile> | undefined;
  #state: "writing" | "sealed" | "discarded" = "writing";
  #discarding: Promise<void> | undefined;

  constructor(init: DatasetInit) {
    assert(init.partitions > 0, "a dataset has at least one partition");
    this.#init = init;
    this.#partitions = Array.from({ length: init.partitions }, () => new BlockList(init.partitionBudget, this));
    init.partitionBudget.add(this);
  }

  get isSealed(): boolean {
    return this.#state === "sealed";
  }

  get partitionCount(): number {
    return this.#partitions.length;
  }

  spillables(): Iterable<BlockList> {
    return this.#partitions;
  }

  /** Spills; the file is opened when first needed. */
  async append(buffers: readonly Uint8Array[]): Promise<number> {
    if (this.#state === "discarded") throw this.#released();
    this.#file ??= this.#openFile();
    return (await this.#file).append(buffers);
  }

  async #openFile(): Promise<SpillFile> {
    try {
      return await this.#init.openSpillFile();
    } catch (failure) {
      // The next spill tries again: the disk may have room by then.
      this.#file = undefined;
      throw failure;
    }
  }

  beginSegment(): Segment {
    this.#requireWriting();
    const { bundleBudget, partitionBudget } = this.#init;
    const segment: Segment = new Segment({
      bundleBudget,
      partitionBudget,
      openList: (partition) => {
        this.#requireWriting();
        assert(
          partition >= 0 && partition < this.#partitions.length,
          `${this.#init.name} has no partition ${partition}`,
        );
        return new BlockList(bundleBudget, this);
      },
      commit: (lists) => {
        this.#requireWriting();
        for (const [partition, list] of lists) list.moveTo(present(this.#partitions[partition], "partition"));
      },
      onEnd: () => this.#segments.delete(segment),
    });
    this.#segments.add(segment);
    return segment;
  }

  seal(): readonly StoredPartition[] {
    this.#requireWriting();
    assert(this.#segments.size === 0, `${this.#init.name} is sealed while a bundle still writes to it`);
    this.#state = "sealed";
    return this.#partitions.map((list, index) => {
      list.compact(FILE_READ_BYTES);
      return { index, byteLength: list.byteLength, elementCount: list.elementCount };
    });
  }

  #requireWriting(): void {
    assert(this.#state !== "sealed", `${this.#init.name} is sealed`);
    if (this.#state === "discarded") throw this.#released();
  }

  #released(): WeirError {
    return new WeirError({
      code: "ABORTED",
      domain: "internal",
      message: `${this.#init.name} was released by its job.`,
    });
  }

  /** The chunks of a sealed partition in order. @throws WeirError ABORTED when it is released meanwhile. */
  async *read(index: number, signal: AbortSignal, joinedBytes = JOINED_CHUNK_BYTES): AsyncGenerator<Chunk> {
    assert(this.isSealed, `${this.#init.name} is read before it is sealed`);
    const { blocks } = present(this.#partitions[index], "partition");
    for (let at = 0; at < blocks.length;) {
      const block = blocks[at] as Block;
      let chunk: Chunk;
      if (block.data !== undefined) {
        const end = endOfRun(blocks, at, joinedBytes, (next) => next.data !== undefined);
        chunk = joinResident(blocks, at, end);
        at = end;
      } else {
        const end = endOfRun(
          blocks,
          at,
          FILE_READ_BYTES,
          (next, last) => next.data === undefined && last.offset + last.byteLength === next.offset,
        );
        const { byteLength, elementCount } = totals(blocks, at, end);
        chunk = { data: await this.#readFile(block.offset, byteLength), elementCount };
        at = end;
      }
      yield chunk;
      signal.throwIfAborted();
      if (!this.isSealed) throw this.#released();
    }
  }

  async #readFile(offset: number, byteLength: number): Promise<Uint8Array> {
    if (!this.isSealed) throw this.#released();
    const file = await present(this.#file, "the spill file");
    if (!this.isSealed) throw this.#released();
    return file.read(offset, byteLength);
  }

  discard(): Promise<void> {
    this.#discarding ??= this.#discard();
    return this.#discarding;
  }

  async #discard(): Promise<void> {
    this.#state = "discarded";
    this.#init.partitionBudget.remove(this);
    for (const segment of this.#segments) segment.abort();
    for (const list of this.#partitions) list.drop();
    this.#init.onDiscard();
    const file = await this.#file?.catch(() => undefined);
    await file?.close();
  }
}

interface SegmentInit {
  readonly bundleBudget: MemoryBudget;
  readonly partitionBudget: MemoryBudget;
  openList(partition: number): BlockList;
  commit(lists: ReadonlyMap<number, BlockList>): void;
  onEnd(): void;
}

/** What one bundle attempt writes to one dataset. */
class Segment implements SpillableSource {
  readonly #init: SegmentInit;
  readonly #lists = new Map<number, BlockList>();
  #state: "open" | "committed" | "aborted" = "open";

  constructor(init: SegmentInit) {
    this.#init = init;
    init.bundleBudget.add(this);
  }

  spillables(): Iterable<BlockList> {
    return this.#lists.values();
  }

  append(partition: number, chunk: Chunk): Promise<void> | undefined {
    // What a harness still sends for a bundle that has failed goes nowhere.
    if (this.#state === "aborted") return undefined;
    assert(this.#state === "open", "a segment is written to after its commit");
    let list = this.#lists.get(partition);
    if (list === undefined) {
      list = this.#init.openList(partition);
      this.#lists.set(partition, list);
    }
    list.push(chunk);
    // Committed data that does not fit slows who produces more of it, too.
    return this.#init.bundleBudget.relief() ?? this.#init.partitionBudget.relief();
  }

  commit(): void {
    assert(this.#state === "open", "a segment ends once");
    this.#init.commit(this.#lists);
    this.#end("committed");
    // Its failure is met by the next append, or not at all: what could not be spilled is still in memory.
    this.#init.partitionBudget.relief()?.catch(() => undefined);
  }

  abort(): void {
    if (this.#state !== "open") return;
    for (const list of this.#lists.values()) list.drop();
    this.#end("aborted");
  }

  #end(state: "committed" | "aborted"): void {
    this.#state = state;
    this.#lists.clear();
    this.#init.bundleBudget.remove(this);
    this.#init.onEnd();
  }
}

/** The end of the longest run from `start` whose blocks all belong together and hold at most `maxBytes`. */
function endOfRun(
  blocks: readonly Block[],
  start: number,
  maxBytes: number,
  belongs: (next: Block, last: Block) => boolean,
): number {
  let last = blocks[start] as Block;
  let runBytes = last.byteLength;
  let end = start + 1;
  for (; end < blocks.length; end++) {
    const next = blocks[end] as Block;
    runBytes += next.byteLength;
    if (runBytes > maxBytes || !belongs(next, last)) break;
    last = next;
  }
  return end;
}

function totals(blocks: readonly Block[], start: number, end: number): { byteLength: number; elementCount: number } {
  let byteLength = 0;
  let elementCount = 0;
  for (let at = start; at < end; at++) {
    byteLength += (blocks[at] as Block).byteLength;
    elementCount += (blocks[at] as Block).elementCount;
  }
  return { byteLength, elementCount };
}

/** Blocks in memory as one chunk; a single one without a copy. */
function joinResident(blocks: readonly Block[], start: number, end: number): Chunk {
  const { byteLength, elementCount } = totals(blocks, start, end);
  const first = (blocks[start] as Block).data as Uint8Array;
  if (end === start + 1) return { data: first.subarray(0, byteLength), elementCount };
  const data = Buffer.allocUnsafeSlow(byteLength);
  let offset = 0;
  for (let at = start; at < end; at++) {
    const block = blocks[at] as Block;
    data.set((block.data as Uint8Array).subarray(0, block.byteLength), offset);
    offset += block.byteLength;
  }
  return { data, elementCount };
}
