/**
 * All input channels of one task, seen as one sequence: data, watermarks merged over the channels of a dataset (main
 * input: over all of its datasets), and barriers once they have arrived on every channel.
 *
 * Invariants: the order within a channel is kept. A channel whose front is a barrier is not read until the barrier is
 * at the front of all channels (aligned checkpoints), unless the job asked for AT_LEAST_ONCE: then it is read on, and
 * what came behind the barrier is in the snapshot and comes again after a restore. Merged watermarks never move back. Side input is read even
 * while main input is not wanted, since main input may be waiting for it.
 *
 * A barrier that may overtake is seen wherever it is in a channel (`announced`); what was before it, and not read, is
 * given out by `freeze` for the snapshot and is read all the same. After a restore that comes first in its channel.
 */
import type { Chunk } from "../../base/chunk.ts";
import { MAX_TIMESTAMP, MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import type { Barrier, ChannelItem, ChannelQueue, InFlightItem } from "./channel-queue.ts";

export interface GateChannel {
  readonly datasetId: string;
  readonly side: boolean;
  readonly queue: ChannelQueue;
  /** Of a snapshot with in-flight data. */
  readonly restored?: RestoredChannel | undefined;
}

export interface RestoredChannel {
  /** The last that was read. */
  readonly watermark: Timestamp;
  /** To be read before anything else. */
  readonly items: readonly InFlightItem[];
}

/** A channel at the moment of a snapshot whose barrier has overtaken data. */
export interface FrozenChannel {
  readonly queue: ChannelQueue;
  readonly watermark: Timestamp;
  /** Before the barrier, and not read. */
  readonly items: readonly InFlightItem[];
  /** The barrier has not come: what comes before it belongs to the snapshot, too. */
  readonly isOpen: boolean;
}

export type GateEvent =
  | { readonly kind: "data"; readonly side: boolean; readonly datasetId: string; readonly chunk: Chunk }
  /** Of main input as a whole, or of one side input's dataset. */
  | { readonly kind: "watermark"; readonly side: boolean; readonly datasetId: string; readonly timestamp: Timestamp }
  | { readonly kind: "barrier"; readonly barrier: Barrier };

/** Of the task's stage. */
export interface Cutter {
  cut(chunk: Chunk): { readonly head: Chunk; readonly rest: Chunk | undefined };
}

interface Channel extends GateChannel {
  watermark: Timestamp;
  /** What is left of a snapshot's in-flight data. */
  replay: InFlightItem[];
  /** Of the item at the front, whose beginning was given out. */
  rest: Chunk | undefined;
  /** Of the newest barrier that was taken from it, where barriers do not block. */
  passedCheckpointId: number;
}

export class InputGate {
  readonly #channels: Channel[];
  #next = 0;
  #isAligning = false;
  #mainWatermark: Timestamp;
  readonly #sideWatermarks = new Map<string, Timestamp>();
  readonly #blocks: boolean;
  /** Of the newest barrier that has come on all channels, or has overtaken: copies of it, and older ones, are dropped. */
  #passedId = -1;

  /**
   * @param restored watermarks from which a restored task goes on; the minimum where there is none.
   * @param blocks false: a channel is read on behind a barrier (AT_LEAST_ONCE)
   */
  constructor(
    channels: readonly GateChannel[],
    restored: { readonly main: Timestamp; readonly side: ReadonlyMap<string, Timestamp> } = {
      main: MIN_TIMESTAMP,
      side: new Map(),
    },
    blocks = true,
  ) {
    this.#blocks = blocks;
    this.#mainWatermark = restored.main;
    this.#channels = channels.map((channel) => ({
      ...channel,
      passedCheckpointId: -1,
      rest: undefined,
      replay: [...(channel.restored?.items ?? [])],
      watermark:
        channel.restored?.watermark ??
        (channel.side ? (restored.side.get(channel.datasetId) ?? MIN_TIMESTAMP) : restored.main),
    }));
    for (const { side, datasetId } of this.#channels)
      if (side) this.#sideWatermarks.set(datasetId, restored.side.get(datasetId) ?? MIN_TIMESTAMP);
  }

  get mainWatermark(): Timestamp {
    return this.#mainWatermark;
  }

  get sideWatermarks(): ReadonlyMap<string, Timestamp> {
    return this.#sideWatermarks;
  }

  /** A barrier is at the front of a channel, and not of all. */
  get isAligning(): boolean {
    return this.#isAligning;
  }

  /** True when something waits in a channel, whether it may be read now or not. */
  get hasInput(): boolean {
    return this.#channels.some((channel) => channel.replay.length + channel.queue.length > 0);
  }

  get queuedBytes(): number {
    return this.#channels.reduce((sum, channel) => sum + channel.queue.bytes, 0);
  }

  get receivedItems(): number {
    return this.#channels.reduce((sum, channel) => sum + channel.queue.shiftedCount, 0);
  }

  /**
   * The next event that may be handled now.
   * @param wantsMain false while the task has enough main input
   * @param cutter of main input: what of a chunk is wanted now; the rest stays in its channel
   * @param wantsSide false while the task has as much side input as it may hold beside its rows
   */
  next(wantsMain: boolean, cutter?: Cutter, wantsSide = true): GateEvent | undefined {
    const count = this.#channels.length;
    for (let step = 0; step < count; step++) {
      const index = (this.#next + step) % count;
      const channel = this.#channels[index] as Channel;
      if (channel.side ? !wantsSide : !wantsMain) continue;
      const item = frontOf(channel);
      if (item === undefined) continue;
      if (item.kind === "barrier") {
        if (item.barrier.checkpointId <= this.#passedId) {
          channel.queue.shift();
          step = -1;
          continue;
        }
        const isAligned = this.#blocks || item.barrier.savepoint !== undefined;
        const barrier = isAligned ? this.#alignedBarrier() : this.#passedBarrier(channel, item.barrier);
        if (barrier === "look again") step = -1;
        else if (barrier !== undefined) {
          this.#isAligning = false;
          this.#passedId = barrier.checkpointId;
          return { kind: "barrier", barrier };
        } else this.#isAligning = true;
        continue;
      }
      this.#next = (index + 1) % count;
      if (item.kind === "data") {
        const { head, rest } = channel.side || cutter === undefined ? whole(item.chunk) : cutter.cut(item.chunk);
        channel.rest = rest;
        if (rest === undefined) shift(channel);
        return { kind: "data", side: channel.side, datasetId: channel.datasetId, chunk: head };
      }
      shift(channel);
      const event = this.#advance(channel, item.timestamp);
      if (event !== undefined) return event;
      // The watermark changed nothing: look on, from the beginning, since the channel may have more.
      step = -1;
    }
    return undefined;
  }

  /**
   * The newest barrier that may overtake and has not come on all channels, wherever it is; of its copies the one that
   * waits the least.
   */
  get announced(): Barrier | undefined {
    let newest: Barrier | undefined;
    for (const { queue } of this.#channels) {
      const barrier = queue.announced;
      if (barrier === undefined || barrier.checkpointId <= this.#passedId) continue;
      if (newest === undefined || isBefore(barrier, newest)) newest = barrier;
    }
    return newest;
  }

  /** The barrier overtakes what is before it, which is given out; where it had come on all channels that is nothing. */
  freeze(checkpointId: number): readonly FrozenChannel[] {
    const isPassed = checkpointId <= this.#passedId;
    this.#passedId = Math.max(checkpointId, this.#passedId);
    this.#isAligning = false;
    return this.#channels.map((channel) => {
      const { queue, watermark, replay } = channel;
      if (isPassed) return { queue, watermark, items: [], isOpen: false };
      const waiting = queue.items();
      const at = waiting.findIndex((item) => item.kind === "barrier" && item.barrier.checkpointId >= checkpointId);
      const before = at < 0 ? waiting : waiting.slice(0, at);
      const items = [...replay, ...before.filter(isInFlight)];
      if (channel.rest !== undefined) items[0] = { kind: "data", chunk: channel.rest };
      return { queue, watermark, items, isOpen: at < 0 };
    });
  }

  /** Takes the barrier from every channel if it is at the front of all of them. */
  #alignedBarrier(): Barrier | "look again" | undefined {
    let barrier: Barrier | undefined;
    for (const channel of this.#channels) {
      const front = frontOf(channel);
      if (front?.kind !== "barrier") return undefined;
      if (barrier === undefined || front.barrier.checkpointId > barrier.checkpointId) barrier = front.barrier;
    }
    if (barrier === undefined) return undefined;
    let aligned = true;
    for (const { queue } of this.#channels) {
      const front = queue.peek();
      // An older barrier is one of a checkpoint that was given up.
      if (front?.kind === "barrier" && front.barrier.checkpointId < barrier.checkpointId) {
        queue.shift();
        aligned = false;
      }
    }
    if (!aligned) return "look again";
    for (const { queue } of this.#channels) queue.shift();
    return barrier;
  }

  /** Takes the barrier from its channel. @returns it when it was the last channel's */
  #passedBarrier(channel: Channel, barrier: Barrier): Barrier | "look again" {
    channel.queue.shift();
    channel.passedCheckpointId = barrier.checkpointId;
    const isLast = this.#channels.every((other) => other.passedCheckpointId >= barrier.checkpointId);
    return isLast ? barrier : "look again";
  }

  #advance(channel: Channel, timestamp: Timestamp): GateEvent | undefined {
    if (timestamp <= channel.watermark) return undefined;
    channel.watermark = timestamp;
    let merged: Timestamp = MAX_TIMESTAMP;
    for (const other of this.#channels) {
      const counts = channel.side ? other.side && other.datasetId === channel.datasetId : !other.side;
      if (counts && other.watermark < merged) merged = other.watermark;
    }
    const before = channel.side ? (this.#sideWatermarks.get(channel.datasetId) ?? MIN_TIMESTAMP) : this.#mainWatermark;
    if (merged <= before) return undefined;
    if (channel.side) this.#sideWatermarks.set(channel.datasetId, merged);
    else this.#mainWatermark = merged;
    return { kind: "watermark", side: channel.side, datasetId: channel.datasetId, timestamp: merged };
  }
}

function frontOf({ rest, replay, queue }: Channel): ChannelItem | undefined {
  return rest === undefined ? (replay[0] ?? queue.peek()) : { kind: "data", chunk: rest };
}

/** Takes the front out, all of which was given out. */
function shift({ replay, queue }: Channel): void {
  if (replay.length > 0) replay.shift();
  else queue.shift();
}

function whole(chunk: Chunk): ReturnType<Cutter["cut"]> {
  return { head: chunk, rest: undefined };
}

function isInFlight(item: ChannelItem): item is InFlightItem {
  return item.kind !== "barrier";
}

/** Newer, or sooner to overtake. */
function isBefore(left: Barrier, right: Barrier): boolean {
  if (left.checkpointId !== right.checkpointId) return left.checkpointId > right.checkpointId;
  return (left.overtakesAfterMs ?? Infinity) < (right.overtakesAfterMs ?? Infinity);
}
