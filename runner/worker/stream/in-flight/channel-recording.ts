/**
 * What a snapshot whose barrier has overtaken data has to hold of a task's input channels: what was in them, and what
 * still comes before the barrier on those where it had not come.
 *
 * Invariants: it ends when the barrier, or a newer one, has come on every channel, or when it is given up. Data is
 * shared with the channel, not copied; what comes late is bounded.
 */
import { WeirError } from "../../../base/errors.ts";
import type { ChannelItem, ChannelQueue, InFlightItem } from "../channel-queue.ts";
import type { FrozenChannel } from "../input-gate.ts";
import { chunkBytes } from "../spilled-output.ts";
import type { Timestamp } from "../../../time/timestamp.ts";

export interface RecordedChannel {
  readonly queue: ChannelQueue;
  /** The last that was read. */
  readonly watermark: Timestamp;
  readonly items: readonly InFlightItem[];
}

export class ChannelRecording {
  /** Rejects when it is given up. */
  readonly done: Promise<readonly RecordedChannel[]>;
  readonly #checkpointId: number;
  readonly #maxLateBytes: number;
  readonly #channels: readonly { readonly queue: ChannelQueue; readonly watermark: Timestamp; items: InFlightItem[] }[];
  readonly #open = new Set<ChannelQueue>();
  readonly #end = Promise.withResolvers<readonly RecordedChannel[]>();
  #lateBytes = 0;

  /** @param maxLateBytes of data that comes after the freeze; more, and it is given up */
  constructor(checkpointId: number, channels: readonly FrozenChannel[], maxLateBytes: number) {
    this.#checkpointId = checkpointId;
    this.#maxLateBytes = maxLateBytes;
    this.done = this.#end.promise;
    this.done.catch(() => undefined);
    this.#channels = channels.map(({ queue, watermark, items }) => ({ queue, watermark, items: [...items] }));
    for (const [index, { queue, isOpen }] of channels.entries()) {
      if (!isOpen) continue;
      this.#open.add(queue);
      const items = this.#channels[index]?.items ?? [];
      queue.recorder = (item) => this.#record(queue, items, item);
    }
    this.#endIfWhole();
  }

  #record(queue: ChannelQueue, items: InFlightItem[], item: ChannelItem): void {
    if (item.kind === "barrier") {
      if (item.barrier.checkpointId < this.#checkpointId) return;
      this.#close(queue);
      this.#endIfWhole();
      return;
    }
    if (item.kind === "watermark" && items.at(-1)?.kind === "watermark") items[items.length - 1] = item;
    else items.push(item);
    if (item.kind !== "data") return;
    this.#lateBytes += chunkBytes(item.chunk);
    if (this.#lateBytes > this.#maxLateBytes)
      this.cancel(
        new WeirError({
          code: "RESOURCE_EXHAUSTED",
          domain: "internal",
          message: `More than ${this.#maxLateBytes} bytes came before the barrier of an unaligned checkpoint.`,
          retry: true,
        }),
      );
  }

  #close(queue: ChannelQueue): void {
    queue.recorder = undefined;
    this.#open.delete(queue);
  }

  #endIfWhole(): void {
    if (this.#open.size === 0) this.#end.resolve(this.#channels);
  }

  /** Ends it without a result. Idempotent; nothing when it has ended. */
  cancel(reason: Error): void {
    for (const queue of [...this.#open]) this.#close(queue);
    this.#end.reject(reason);
  }
}
