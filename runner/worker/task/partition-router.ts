/**
 * Cuts what a stage emits into the partitions of one dataset. With one partition bytes pass through untouched; else
 * each element is copied once, into its partition's buffer.
 */
import type { Chunk } from "../../base/chunk.ts";
import { present } from "../../base/assert.ts";
import { compileSkip } from "../../coders/element-boundary.ts";
import { hashBytes, keyGroupOf, partitionOf } from "../../coders/key-group.ts";
import { newHeader, WindowedValueLayout } from "../../coders/windowed-value.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import type { CoderTable, DatasetSpec } from "../../graph/execution-graph.ts";

/** Takes whole elements for one partition; a promise asks the router to wait. */
export type Emit = (partition: number, chunk: Chunk) => Promise<void> | void;

/** A rebalanced chunk below this size is spread element by element: few elements may mean much work. */
const SPREAD_BELOW_BYTES = 64 * 1024;

export class PartitionRouter {
  readonly #layout: WindowedValueLayout;
  readonly #dataset: DatasetSpec;
  readonly #partitions: number;
  readonly #maxParallelism: number;
  readonly #keySkip: Skip | undefined;
  readonly #header = newHeader();
  #next = 0;
  #restrictionSize = 0;

  /** @throws WeirError when a hash dataset's elements are not a KV that can be walked. */
  constructor(coders: CoderTable, dataset: DatasetSpec, partitions: number, maxParallelism: number) {
    this.#layout = new WindowedValueLayout(coders, dataset.coderId);
    this.#dataset = dataset;
    this.#partitions = partitions;
    this.#maxParallelism = maxParallelism;
    if (dataset.partitioner === "hash" && partitions > 1) {
      const windowed = present(coders[dataset.coderId], "the dataset's coder");
      const element = present(coders[windowed.components[0] ?? ""], "the dataset's element coder");
      this.#keySkip = compileSkip(coders, element.components[0] ?? "");
    }
  }

  /** Sum of the sizes of the sized restrictions that went through; 0 for other datasets. */
  get restrictionSize(): number {
    return this.#restrictionSize;
  }

  /** @param chunk its elementCount may be -1: not counted yet. @throws WeirError DATA_LOSS for malformed bytes. */
  route(chunk: Chunk, emit: Emit): Promise<void> | void {
    if (this.#dataset.sizedRestrictions) this.#addSizes(chunk.data);
    if (this.#partitions === 1) {
      const elementCount = chunk.elementCount >= 0 ? chunk.elementCount : this.#layout.countElements(chunk.data);
      return emit(0, { data: chunk.data, elementCount });
    }
    return this.#keySkip === undefined ? this.#spread(chunk.data, emit) : this.#hash(chunk.data, this.#keySkip, emit);
  }

  #addSizes(data: Uint8Array): void {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    for (let at = 0; at < data.length; ) {
      at = this.#layout.skip(data, at);
      // KV<_, double>: the size is the last eight bytes.
      this.#restrictionSize += view.getFloat64(at - 8);
    }
  }

  #spread(data: Uint8Array, emit: Emit): Promise<void> | void {
    const target = data.length < SPREAD_BELOW_BYTES ? 1 : Math.ceil(data.length / this.#partitions);
    const waits: Promise<void>[] = [];
    let start = 0;
    let elementCount = 0;
    for (let at = 0; at < data.length; ) {
      at = this.#layout.skip(data, at);
      elementCount++;
      if (at - start >= target || at === data.length) {
        const wait = emit(this.#next, { data: data.subarray(start, at), elementCount });
        if (wait !== undefined) waits.push(wait);
        this.#next = (this.#next + 1) % this.#partitions;
        start = at;
        elementCount = 0;
      }
    }
    return joined(waits);
  }

  #hash(data: Uint8Array, keySkip: Skip, emit: Emit): Promise<void> | void {
    const header = this.#header;
    const partitions = this.#partitions;
    // First pass: where each element ends and goes. Second pass: one exact buffer per partition.
    const ends: number[] = [];
    const targets: number[] = [];
    const bytesOf = new Array<number>(partitions).fill(0);
    const countOf = new Array<number>(partitions).fill(0);
    for (let at = 0; at < data.length; ) {
      this.#layout.readHeader(data, at, header);
      const hash = hashBytes(data, header.valueStart, keySkip(data, header.valueStart));
      const target = partitionOf(keyGroupOf(hash, this.#maxParallelism), this.#maxParallelism, partitions);
      const end = this.#layout.valueSkip(data, header.valueStart);
      ends.push(end);
      targets.push(target);
      bytesOf[target] = (bytesOf[target] ?? 0) + (end - at);
      countOf[target] = (countOf[target] ?? 0) + 1;
      at = end;
    }
    const buffers = bytesOf.map((bytes) => Buffer.allocUnsafeSlow(bytes));
    const filled = new Array<number>(partitions).fill(0);
    let start = 0;
    for (let index = 0; index < ends.length; index++) {
      const end = ends[index] as number;
      const target = targets[index] as number;
      (buffers[target] as Buffer).set(data.subarray(start, end), filled[target] as number);
      filled[target] = (filled[target] as number) + (end - start);
      start = end;
    }
    const waits: Promise<void>[] = [];
    for (let partition = 0; partition < partitions; partition++) {
      const elementCount = countOf[partition] ?? 0;
      if (elementCount === 0) continue;
      const wait = emit(partition, { data: buffers[partition] as Buffer, elementCount });
      if (wait !== undefined) waits.push(wait);
    }
    return joined(waits);
  }
}

function joined(waits: readonly Promise<void>[]): Promise<void> | void {
  return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
}
