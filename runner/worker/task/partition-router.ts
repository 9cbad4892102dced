/**
 * Cuts what a stage emits into the partitions of one dataset. With one partition bytes pass through untouched; else
 * each element is copied once, into its partition's buffer, or, where any partition will do and there is much of it,
 * cut off without a copy.
 *
 * Invariants: every chunk that it emits holds whole elements and their true number; elements of one key go to one
 * partition, in the order in which they came. It keeps nothing between calls but the partition that is next in turn, and
 * emits nothing of a chunk that it refuses.
 */
import type { Chunk } from "../../base/chunk.ts";
import { TruncatedElementError } from "../../coders/byte-reader.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import { KeyedLayout } from "../../coders/key-slice.ts";
import { hashBytes, keyGroupOf, partitionOf } from "../../coders/key-group.ts";
import { newHeader, WindowedValueLayout } from "../../coders/windowed-value.ts";
import type { CoderTable, DatasetSpec } from "../../graph/execution-graph.ts";

/** Takes whole elements for one partition; a promise asks the router to wait. */
export type Emit = (partition: number, chunk: Chunk) => Promise<void> | void;

/** A rebalanced chunk below this size is spread element by element: few elements may mean much work. */
const SPREAD_BELOW_BYTES = 64 * 1024;
const DOUBLE_BYTES = 8;

export class PartitionRouter {
  readonly #dataset: DatasetSpec;
  readonly #layout: WindowedValueLayout;
  readonly #keySkip: Skip | undefined;
  readonly #partitions: number;
  readonly #maxParallelism: number;
  readonly #header = newHeader();
  /** Of the elements of the chunk that is being routed: where each ends, and its partition. Grown, and used again. */
  #ends = new Uint32Array(1024);
  #targets = new Uint16Array(1024);
  readonly #bytesOf: Float64Array;
  readonly #countOf: Uint32Array;
  #next = 0;
  #restrictionSize = 0;

  /** @throws WeirError when a hash dataset's elements are not a KV that can be walked. */
  constructor(coders: CoderTable, dataset: DatasetSpec, partitions: number, maxParallelism: number) {
    const isKeyed = dataset.partitioner === "hash" && partitions > 1;
    const keyed = isKeyed ? new KeyedLayout(coders, dataset.coderId) : undefined;
    this.#dataset = dataset;
    this.#layout = keyed?.windowed ?? new WindowedValueLayout(coders, dataset.coderId);
    this.#keySkip = keyed?.keySkip;
    this.#partitions = partitions;
    this.#maxParallelism = maxParallelism;
    this.#bytesOf = new Float64Array(partitions);
    this.#countOf = new Uint32Array(partitions);
  }

  /** Sum of the sizes of the sized restrictions that went through; 0 for other datasets. */
  get restrictionSize(): number {
    return this.#restrictionSize;
  }

  /**
   * @param chunk its elementCount may be -1: not counted yet.
   * @throws WeirError DATA_LOSS for malformed bytes; TruncatedElementError, with what is whole, when the last one goes on.
   */
  route(chunk: Chunk, emit: Emit): Promise<void> | void {
    try {
      return this.#route(chunk, emit);
    } catch (failure) {
      if (failure instanceof TruncatedElementError) failure.wholeBytes = this.#wholeBytes(chunk.data);
      throw failure;
    }
  }

  /** Up to the element that goes on. */
  #wholeBytes(data: Uint8Array): number {
    let at = 0;
    try {
      for (;;) at = this.#layout.skip(data, at);
    } catch {
      return at;
    }
  }

  #route(chunk: Chunk, emit: Emit): Promise<void> | void {
    const { data, elementCount } = chunk;
    const { sizedRestrictions } = this.#dataset;
    if (data.length === 0 && elementCount <= 0) return undefined;
    if (this.#partitions === 1) {
      const counted = sizedRestrictions ? this.#addSizes(data) : elementCount;
      return emit(0, { data, elementCount: counted >= 0 ? counted : this.#layout.countElements(data) });
    }
    if (sizedRestrictions) this.#addSizes(data);
    if (this.#keySkip !== undefined) return this.#scatter(data, this.#assignByKey(data, this.#keySkip), emit);
    if (sizedRestrictions || data.length < SPREAD_BELOW_BYTES)
      return this.#scatter(data, this.#assignInTurn(data), emit);
    return this.#cut(data, emit);
  }

  /** @returns the number of elements */
  #addSizes(data: Uint8Array): number {
    const { skip } = this.#layout;
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    let count = 0;
    let sum = 0;
    for (let at = 0; at < data.length; count++) {
      at = skip(data, at);
      // KV<_, double>: the size is the last eight bytes.
      const size = view.getFloat64(at - DOUBLE_BYTES);
      if (size > 0) sum += size;
    }
    this.#restrictionSize += sum;
    return count;
  }

  /** Whole elements of about the same number of bytes to each partition: nothing is copied. */
  #cut(data: Uint8Array, emit: Emit): Promise<void> | void {
    const { skip } = this.#layout;
    const pieceBytes = Math.ceil(data.length / this.#partitions);
    const pieces: Chunk[] = [];
    let start = 0;
    let elementCount = 0;
    for (let at = 0; at < data.length;) {
      at = skip(data, at);
      elementCount++;
      if (at - start < pieceBytes && at < data.length) continue;
      pieces.push({ data: data.subarray(start, at), elementCount });
      start = at;
      elementCount = 0;
    }
    return joined(pieces.flatMap((piece) => emit(this.#takeNext(), piece) ?? []));
  }

  #takeNext(): number {
    const next = this.#next;
    this.#next = next + 1 === this.#partitions ? 0 : next + 1;
    return next;
  }

  /** @returns the number of elements */
  #assignInTurn(data: Uint8Array): number {
    const { skip } = this.#layout;
    let count = 0;
    for (let at = 0; at < data.length;) {
      at = skip(data, at);
      this.#assign(count++, at, this.#takeNext());
    }
    return count;
  }

  #assignByKey(data: Uint8Array, keySkip: Skip): number {
    const layout = this.#layout;
    const header = this.#header;
    const maxParallelism = this.#maxParallelism;
    const partitions = this.#partitions;
    let count = 0;
    for (let at = 0; at < data.length;) {
      layout.readHeader(data, at, header);
      const { valueStart } = header;
      const hash = hashBytes(data, valueStart, keySkip(data, valueStart));
      at = layout.valueSkip(data, valueStart);
      this.#assign(count++, at, partitionOf(keyGroupOf(hash, maxParallelism), maxParallelism, partitions));
    }
    return count;
  }

  #assign(index: number, end: number, partition: number): void {
    if (index === this.#ends.length) {
      const ends = new Uint32Array(index * 2);
      ends.set(this.#ends);
      this.#ends = ends;
      const targets = new Uint16Array(index * 2);
      targets.set(this.#targets);
      this.#targets = targets;
    }
    this.#ends[index] = end;
    this.#targets[index] = partition;
  }

  /** Copies each element into a buffer of its partition's own, of exactly the size that it needs. */
  #scatter(data: Uint8Array, elementCount: number, emit: Emit): Promise<void> | void {
    const ends = this.#ends;
    const targets = this.#targets;
    const bytesOf = this.#bytesOf.fill(0);
    const countOf = this.#countOf.fill(0);
    let start = 0;
    for (let index = 0; index < elementCount; index++) {
      const end = ends[index] as number;
      const target = targets[index] as number;
      bytesOf[target] = (bytesOf[target] as number) + (end - start);
      countOf[target] = (countOf[target] as number) + 1;
      start = end;
    }
    const buffers = Array.from(bytesOf, (bytes) => Buffer.allocUnsafeSlow(bytes));
    const source = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const filled = bytesOf.fill(0);
    start = 0;
    for (let index = 0; index < elementCount; index++) {
      const end = ends[index] as number;
      const target = targets[index] as number;
      const to = filled[target] as number;
      source.copy(buffers[target] as Buffer, to, start, end);
      filled[target] = to + (end - start);
      start = end;
    }
    const waits: Promise<void>[] = [];
    for (let partition = 0; partition < buffers.length; partition++) {
      const count = countOf[partition] as number;
      if (count === 0) continue;
      const wait = emit(partition, { data: buffers[partition] as Buffer, elementCount: count });
      if (wait !== undefined) waits.push(wait);
    }
    return joined(waits);
  }
}

function joined(waits: readonly Promise<void>[]): Promise<void> | void {
  return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
}
