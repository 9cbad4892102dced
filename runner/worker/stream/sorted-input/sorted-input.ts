/**
 * Main input of a DoFn that requires it sorted by time: elements wait as rows, one each, until the watermark has passed
 * their timestamp and the allowed lateness, and come out in the order of their timestamps, those of equal ones as they
 * came in.
 *
 * Invariants: no element is released before one with an earlier timestamp that may still come; one that comes when its
 * like has been released already is dropped and counted. What waits holds the output watermark at its timestamp; what
 * has been released is the caller's to hold. Timers of the same watermark fire after what it releases.
 * Source: beam:requirement:pardo:time_sorted_input:v1; StatefulDoFnRunner of the Java reference, which with allowed
 * lateness releases up to the watermark at once and so may get out of order; here the lateness is waited for.
 */
import { assert } from "../../../base/assert.ts";
import type { Chunk } from "../../../base/chunk.ts";
import { hashBytes, keyGroupOf } from "../../../coders/key-group.ts";
import { KeyedLayout, newKeyedPositions } from "../../../coders/key-slice.ts";
import type { CoderTable } from "../../../graph/execution-graph.ts";
import { keyGroupPrefix, type StateTable } from "../../../state/state-rows.ts";
import { MAX_TIMESTAMP, readTimestamp, type Timestamp } from "../../../time/timestamp.ts";
import { type HeapItem, IndexedHeap } from "../timers/indexed-heap.ts";

export interface SortedInputInit {
  /** What it holds is restored. */
  readonly table: StateTable;
  readonly coders: CoderTable;
  /** windowed_value<kv<K, V>>. */
  readonly inputCoderId: string;
  /** Of the main input's windowing. */
  readonly allowedLatenessMs: number;
  readonly maxParallelism: number;
  /** Where the task stands, or is restored. */
  readonly inputWatermark: Timestamp;
  /** Released chunks are about so large. */
  readonly chunkBytes: number;
}

interface Waiting extends HeapItem {
  readonly timestamp: Timestamp;
  /** In order of arrival. */
  readonly sequence: number;
  readonly rowKey: string;
}

const SEQUENCE_BYTES = 6;

export class SortedInput {
  readonly #table: StateTable;
  readonly #layout: KeyedLayout;
  readonly #positions = newKeyedPositions();
  readonly #allowedLatenessMs: number;
  readonly #maxParallelism: number;
  readonly #chunkBytes: number;
  readonly #waiting = new IndexedHeap<Waiting>((a, b) =>
    a.timestamp === b.timestamp ? a.sequence < b.sequence : a.timestamp < b.timestamp,
  );
  #inputWatermark: Timestamp;
  #nextSequence = 0;
  #droppedLateCount = 0;

  /** @throws WeirError when the input has no key or the runner cannot walk its coder. */
  constructor(init: SortedInputInit) {
    this.#table = init.table;
    this.#layout = new KeyedLayout(init.coders, init.inputCoderId);
    this.#allowedLatenessMs = init.allowedLatenessMs;
    this.#maxParallelism = init.maxParallelism;
    this.#chunkBytes = init.chunkBytes;
    this.#inputWatermark = init.inputWatermark;
    for (const [rowKey, element] of init.table.entries()) {
      const sequence = Buffer.from(rowKey, "latin1").readUIntBE(2, SEQUENCE_BYTES);
      this.#waiting.add({ timestamp: readTimestamp(element, 0), sequence, rowKey, heapIndex: -1 });
      this.#nextSequence = Math.max(this.#nextSequence, sequence + 1);
    }
  }

  /** Elements that wait. */
  get count(): number {
    return this.#waiting.size;
  }

  /** The least timestamp of those that wait; MAX_TIMESTAMP when none does. */
  get hold(): Timestamp {
    return this.#waiting.first?.timestamp ?? MAX_TIMESTAMP;
  }

  /** Elements dropped because the watermark had passed them. */
  get droppedLateCount(): number {
    return this.#droppedLateCount;
  }

  /** @throws WeirError DATA_LOSS when an element does not fit its coder. */
  add({ data }: Chunk): void {
    const positions = this.#positions;
    const { header } = positions;
    for (let start = 0, end = 0; start < data.length; start = end) {
      end = this.#layout.read(data, start, positions);
      const timestamp = readTimestamp(data, header.timestampStart);
      if (this.#inputWatermark > timestamp + this.#allowedLatenessMs) {
        this.#droppedLateCount++;
        continue;
      }
      const sequence = this.#nextSequence++;
      const keyHash = hashBytes(data, header.valueStart, positions.keyEnd);
      const rowKey = keyGroupPrefix(keyGroupOf(keyHash, this.#maxParallelism)) + sequenceKey(sequence);
      this.#table.put(rowKey, new Uint8Array(data.subarray(start, end)));
      this.#waiting.add({ timestamp, sequence, rowKey, heapIndex: -1 });
    }
  }

  /**
   * Takes out what the watermark, or an earlier one, has passed: sorted over all chunks, so that the first element of
   * a chunk has its least timestamp.
   */
  release(inputWatermark: Timestamp): Chunk[] {
    if (inputWatermark > this.#inputWatermark) this.#inputWatermark = inputWatermark;
    const chunks: Chunk[] = [];
    let elements: Uint8Array[] = [];
    let bytes = 0;
    const cut = () => {
      if (elements.length > 0) chunks.push({ data: Buffer.concat(elements, bytes), elementCount: elements.length });
      elements = [];
      bytes = 0;
    };
    for (let first = this.#waiting.first; first !== undefined && this.#isDue(first); first = this.#waiting.first) {
      const element = this.#table.get(first.rowKey);
      assert(element !== undefined, "an element that waits has a row");
      this.#waiting.remove(first);
      this.#table.delete(first.rowKey);
      elements.push(element);
      bytes += element.length;
      if (bytes >= this.#chunkBytes) cut();
    }
    cut();
    return chunks;
  }

  #isDue({ timestamp }: Waiting): boolean {
    // Lateness does not go beyond the end of time.
    return this.#inputWatermark >= MAX_TIMESTAMP || timestamp + this.#allowedLatenessMs <= this.#inputWatermark;
  }
}

function sequenceKey(sequence: number): string {
  const bytes = Buffer.allocUnsafe(SEQUENCE_BYTES);
  bytes.writeUIntBE(sequence, 0, SEQUENCE_BYTES);
  return bytes.toString("latin1");
}
