/**
 * One end of a channel between two subtasks: batches, watermarks and barriers in the order in which they were put in.
 * Between subtasks of one worker both ends are the same queue; between workers the exchange moves items from the
 * producer's queue to the consumer's.
 *
 * Invariants: order is sacred, nothing overtakes but a barrier that may; a watermark directly behind a watermark
 * replaces it. The queue does not refuse items (a bundle's outputs are published in one step): a producer starts no
 * bundle while a queue of its is full, so that a queue holds at most its capacity and one bundle's outputs.
 *
 * A barrier that overtakes: where the consumer reads this very queue it stays in its place, and the consumer, which sees
 * it at once, puts what is before it into its snapshot. Where the queue is sent to another worker the barrier goes to the
 * front, and what it has overtaken belongs to the producer's snapshot.
 */
import type { Chunk } from "../../base/chunk.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import type { BufferDebloat } from "./buffer-debloat.ts";
import { chunkBytes } from "./spilled-output.ts";

/** A checkpoint's barrier. */
export interface Barrier {
  readonly checkpointId: number;
  /**
   * Where it is still behind data after so long it overtakes the data, which becomes part of the snapshot: 0, at once
   * (unaligned). Undefined: never (aligned).
   */
  readonly overtakesAfterMs?: number | undefined;
  /** Of a savepoint, whose barrier is aligned in every mode. */
  readonly savepoint?: SavepointMark;
}

export interface SavepointMark {
  /** The folder to which each task copies the files of its snapshot. */
  readonly path: string;
  /** Tasks stand still behind the barrier: see SavepointStop. */
  readonly stops: boolean;
}

/** As messages say it. */
export function barrierOf(message: {
  readonly checkpointId: bigint;
  readonly overtakesAfterMs?: bigint | undefined;
  readonly savepointPath: string;
  readonly savepointStops: boolean;
}): Barrier {
  const { checkpointId, overtakesAfterMs, savepointPath, savepointStops } = message;
  return {
    checkpointId: Number(checkpointId),
    overtakesAfterMs: overtakesAfterMs === undefined ? undefined : Number(overtakesAfterMs),
    ...(savepointPath === "" ? {} : { savepoint: { path: savepointPath, stops: savepointStops } }),
  };
}

/** What a snapshot may hold of a channel. */
export type InFlightItem =
  { readonly kind: "data"; readonly chunk: Chunk } | { readonly kind: "watermark"; readonly timestamp: Timestamp };

export type ChannelItem = InFlightItem | { readonly kind: "barrier"; readonly barrier: Barrier };

/** Which queue: unique over the attempts of a job, whose numbers its regions share. */
export interface ChannelId {
  readonly jobId: string;
  readonly region: number;
  /** The region's execution attempt: streams of older ones are refused. */
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
  readonly #capacityBytes: number;
  /** Of the end that decides how much there is: see BufferDebloat. */
  debloat: BufferDebloat | undefined;
  /** Those taken out are cleared, so that their bytes are not kept. */
  #items: (ChannelItem | undefined)[] = [];
  /** Beside each item the count of all that were ever put in, up to and with it. */
  #sequences: number[] = [];
  #head = 0;
  #bytes = 0;
  #pushed = 0;
  #shifted = 0;
  #announced: Barrier | undefined;
  /** Its consumer reads this very queue: it is on the producer's worker. */
  hasConsumer = false;
  /** Called with every item that is put in, before `onItem`: what a snapshot of the consumer still has to hold. */
  recorder: ((item: ChannelItem) => void) | undefined;
  /** Called after an item was put in. One consumer. */
  onItem: (() => void) | undefined;
  /** Called after an item was taken out. One producer. */
  onRoom: (() => void) | undefined;

  constructor(id: ChannelId, capacityBytes: number) {
    this.id = id;
    this.#capacityBytes = capacityBytes;
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

  /** What it should hold at most. */
  get capacityBytes(): number {
    return this.debloat?.capacityBytes ?? this.#capacityBytes;
  }

  /** Items ever put in (replaced watermarks count), for telling whether a job is quiet. */
  get pushedCount(): number {
    return this.#pushed;
  }

  /** Items ever taken out; a replaced watermark counts when the one that replaced it is taken. */
  get shiftedCount(): number {
    return this.#shifted;
  }

  /** The newest barrier that was put in and may overtake; it may have been taken out since. */
  get announced(): Barrier | undefined {
    return this.#announced;
  }

  /** @param count how many items of the producer it stands for: the exchange joins small ones */
  push(item: ChannelItem, count = 1): void {
    const last = this.#items.length - 1;
    this.#pushed += count;
    if (item.kind === "watermark" && last >= this.#head && this.#items[last]?.kind === "watermark") {
      this.#items[last] = item;
      this.#sequences[last] = this.#pushed;
    } else {
      if (this.#head === this.#items.length) this.debloat?.filled();
      this.#items.push(item);
      this.#sequences.push(this.#pushed);
      this.#bytes += itemBytes(item);
    }
    if (item.kind === "barrier") this.#announce(item.barrier);
    this.recorder?.(item);
    this.onItem?.();
  }

  #announce(barrier: Barrier): void {
    // One that has overtaken an older one is followed by it.
    const isNewest = this.#announced === undefined || barrier.checkpointId >= this.#announced.checkpointId;
    if (isNewest && barrier.overtakesAfterMs !== undefined) this.#announced = barrier;
  }

  /** The barrier is in it. */
  holds(checkpointId: number): boolean {
    return this.items().some((item) => item.kind === "barrier" && item.barrier.checkpointId === checkpointId);
  }

  /**
   * Puts a barrier in that overtakes, or has one that waits here overtake now.
   * @returns what it has overtaken, for the producer's snapshot; none where the consumer keeps it
   */
  overtake(barrier: Barrier): readonly InFlightItem[] {
    if (this.hasConsumer) {
      if (!this.holds(barrier.checkpointId)) this.push({ kind: "barrier", barrier });
      return [];
    }
    const waiting = this.#items.slice(this.#head) as ChannelItem[];
    const counts = this.#sequences
      .slice(this.#head)
      .map((sequence, index, all) => sequence - (all[index - 1] ?? this.#shifted));
    const item: ChannelItem = { kind: "barrier", barrier };
    const at = waiting.findIndex(
      (each) => each.kind === "barrier" && each.barrier.checkpointId === barrier.checkpointId,
    );
    const overtaken = at < 0 ? waiting.slice() : waiting.slice(0, at);
    if (at < 0) {
      this.#pushed++;
      this.#bytes += itemBytes(item);
    } else {
      waiting.splice(at, 1);
      counts.splice(at, 1);
    }
    let sequence = this.#shifted;
    this.#items = [item, ...waiting];
    this.#sequences = [1, ...counts].map((count) => (sequence += count));
    this.#head = 0;
    this.#announce(barrier);
    this.onItem?.();
    return overtaken.filter((each) => each.kind !== "barrier");
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
    const bytes = itemBytes(item);
    this.#bytes -= bytes;
    this.debloat?.taken(bytes, this.#head === this.#items.length);
    this.onRoom?.();
    return item;
  }

  /** What waits, oldest first, without taking it out: in-flight data of a snapshot. */
  items(): readonly ChannelItem[] {
    return this.#items.slice(this.#head) as ChannelItem[];
  }
}

export function itemBytes(item: ChannelItem): number {
  return ITEM_OVERHEAD_BYTES + (item.kind === "data" ? chunkBytes(item.chunk) : 0);
}
