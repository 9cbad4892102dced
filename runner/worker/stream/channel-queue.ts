/**
 * One end of a channel between two subtasks: batches, watermarks and barriers in the order in which they were put in.
 * Between subtasks of one worker both ends are the same queue; between workers the exchange moves items from the
 * producer's queue to the consumer's.
 *
 * Invariants: order is sacred, nothing overtakes; a watermark directly behind a watermark replaces it. The queue does
 * not refuse items (a bundle's outputs are published in one step): a producer starts no bundle while a queue of its
 * is full, so that a queue holds at most its capacity and one bundle's outputs.
 */
import type { Chunk } from "../../base/chunk.ts";
import type { Timestamp } from "../../time/timestamp.ts";

/** A checkpoint's barrier. */
export interface Barrier {
  readonly checkpointId: number;
}

export type ChannelItem =
  | { readonly kind: "data"; readonly chunk: Chunk }
  | { readonly kind: "watermark"; readonly timestamp: Timestamp }
  | { readonly kind: "barrier"; readonly barrier: Barrier };

/** Which queue: unique over the attempts of a job. */
export interface ChannelId {
  readonly jobId: string;
  /** The job's execution attempt: streams of older ones are refused. */
  readonly executionAttempt: number;
  readonly datasetId: string;
  readonly producerSubtask: number;
  readonly consumerVertexId: string;
  readonly consumerSubtask: number;
}

export function channelKey(id: ChannelId): string {
  return [
    id.jobId,
    id.executionAttempt,
    id.datasetId,
    id.producerSubtask,
    id.consumerVertexId,
    id.consumerSubtask,
  ].join("\n");
}

/** What an item counts beside its bytes: many tiny ones are not free. */
const ITEM_OVERHEAD_BYTES = 64;

export class ChannelQueue {
  readonly id: ChannelId;
  readonly capacityBytes: number;
  /** Those taken out are cleared, so that their bytes are not kept. */
  #items: (ChannelItem | undefined)[] = [];
  /** Beside each item the count of all that were ever put in, up to and with it. */
  #sequences: number[] = [];
  #head = 0;
  #bytes = 0;
  #pushed = 0;
  #shifted = 0;
  /** Called after an item was put in. One consumer. */
  onItem: (() => void) | undefined;
  /** Called after an item was taken out. One producer. */
  onRoom: (() => void) | undefined;

  constructor(id: ChannelId, capacityBytes: number) {
    this.id = id;
    this.capacityBytes = capacityBytes;
  }

  get length(): number {
    return this.#items.length - this.#head;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isFull(): boolean {
    return this.#bytes >= this.capacityBytes;
  }

  /** Items ever put in (replaced watermarks count), for telling whether a job is quiet. */
  get pushedCount(): number {
    return this.#pushed;
  }

  /** Items ever taken out; a replaced watermark counts when the one that replaced it is taken. */
  get shiftedCount(): number {
    return this.#shifted;
  }

  /** @param count how many items of the producer it stands for: the exchange joins small ones */
  push(item: ChannelItem, count = 1): void {
    const last = this.#items.length - 1;
    this.#pushed += count;
    if (item.kind === "watermark" && last >= this.#head && this.#items[last]?.kind === "watermark") {
      this.#items[last] = item;
      this.#sequences[last] = this.#pushed;
    } else {
      this.#items.push(item);
      this.#sequences.push(this.#pushed);
      this.#bytes += itemBytes(item);
    }
    this.onItem?.();
  }

  peek(): ChannelItem | undefined {
    return this.#items[this.#head];
  }

  shift(): ChannelItem | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#shifted = this.#sequences[this.#head] ?? 0;
    this.#items[this.#head++] = undefined;
    if (this.#head === this.#items.length || (this.#head > 1024 && this.#head * 2 > this.#items.length)) {
      this.#items = this.#items.slice(this.#head);
      this.#sequences = this.#sequences.slice(this.#head);
      this.#head = 0;
    }
    this.#bytes -= itemBytes(item);
    this.onRoom?.();
    return item;
  }

  /** What waits, oldest first, without taking it out: in-flight data of a snapshot. */
  items(): readonly ChannelItem[] {
    return this.#items.slice(this.#head) as ChannelItem[];
  }
}

export function itemBytes(item: ChannelItem): number {
  return ITEM_OVERHEAD_BYTES + (item.kind === "data" ? item.chunk.data.length : 0);
}
