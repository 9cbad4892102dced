/**
 * All input channels of one task, seen as one sequence: data, watermarks merged over the channels of a dataset (main
 * input: over all of its datasets), and barriers once they have arrived on every channel.
 *
 * Invariants: the order within a channel is kept. A channel whose front is a barrier is not read until the barrier is
 * at the front of all channels (aligned checkpoints), unless the job asked for AT_LEAST_ONCE: then it is read on, and
 * what came behind the barrier is in the snapshot and comes again after a restore. Merged watermarks never move back. Side input is read even
 * while main input is not wanted, since main input may be waiting for it.
 */
import type { Chunk } from "../../base/chunk.ts";
import { MAX_TIMESTAMP, MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import type { Barrier, ChannelQueue } from "./channel-queue.ts";

export interface GateChannel {
  readonly datasetId: string;
  readonly side: boolean;
  readonly queue: ChannelQueue;
}

export type GateEvent =
  | { readonly kind: "data"; readonly side: boolean; readonly datasetId: string; readonly chunk: Chunk }
  /** Of main input as a whole, or of one side input's dataset. */
  | { readonly kind: "watermark"; readonly side: boolean; readonly datasetId: string; readonly timestamp: Timestamp }
  | { readonly kind: "barrier"; readonly barrier: Barrier };

interface Channel extends GateChannel {
  watermark: Timestamp;
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
      watermark: channel.side ? (restored.side.get(channel.datasetId) ?? MIN_TIMESTAMP) : restored.main,
    }));
    for (const { side, datasetId, watermark } of this.#channels)
      if (side) this.#sideWatermarks.set(datasetId, watermark);
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
    return this.#channels.some((channel) => channel.queue.length > 0);
  }

  get queuedBytes(): number {
    return this.#channels.reduce((sum, channel) => sum + channel.queue.bytes, 0);
  }

  get receivedItems(): number {
    return this.#channels.reduce((sum, channel) => sum + channel.queue.shiftedCount, 0);
  }

  /** The next event that may be handled now. @param wantsMain false while the task has enough main input. */
  next(wantsMain: boolean): GateEvent | undefined {
    const count = this.#channels.length;
    for (let step = 0; step < count; step++) {
      const index = (this.#next + step) % count;
      const channel = this.#channels[index] as Channel;
      if (!wantsMain && !channel.side) continue;
      const item = channel.queue.peek();
      if (item === undefined) continue;
      if (item.kind === "barrier") {
        const barrier = this.#blocks ? this.#alignedBarrier() : this.#passedBarrier(channel, item.barrier);
        if (barrier === "look again") step = -1;
        else if (barrier !== undefined) {
          this.#isAligning = false;
          return { kind: "barrier", barrier };
        } else this.#isAligning = this.#blocks;
        continue;
      }
      channel.queue.shift();
      this.#next = (index + 1) % count;
      if (item.kind === "data")
        return { kind: "data", side: channel.side, datasetId: channel.datasetId, chunk: item.chunk };
      const event = this.#advance(channel, item.timestamp);
      if (event !== undefined) return event;
      // The watermark changed nothing: look on, from the beginning, since the channel may have more.
      step = -1;
    }
    return undefined;
  }

  /** Takes the barrier from every channel if it is at the front of all of them. */
  #alignedBarrier(): Barrier | "look again" | undefined {
    let barrier: Barrier | undefined;
    for (const { queue } of this.#channels) {
      const front = queue.peek();
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
