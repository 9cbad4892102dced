/**
 * The producer's end of one channel to another worker: takes items out of the queue and sends them as far as credit
 * allows, small data joined.
 *
 * Invariants: items leave in the order in which they are in the queue; what is in transit is never more than the
 * consumer's window and one message, and barriers that overtake, which wait for nothing. The sender is the queue's one consumer: it owns `onItem` as long as it runs.
 */
import type * as grpc from "@grpc/grpc-js";
import type { Chunk } from "../../base/chunk.ts";
import { toStatus } from "../../base/grpc.ts";
import { type ChannelQueue, itemBytes } from "../stream/channel-queue.ts";
import { encodeData, encodeMark } from "./encode-channel-message.ts";

/** Waiting data is joined up to this size: a message costs as much as copying some KiB. */
const MAX_JOINED_BYTES = 64 * 1024;

export type SubscribeCall = grpc.ServerDuplexStream<Buffer, Buffer>;

export class ChannelSender {
  readonly #queue: ChannelQueue;
  readonly #call: SubscribeCall;
  #creditBytes: number;
  /** The transport's buffer is full. */
  #blocked = false;
  #scheduled = false;
  #closed = false;

  /** @param windowBytes what the consumer granted first */
  constructor(queue: ChannelQueue, call: SubscribeCall, windowBytes: number) {
    this.#queue = queue;
    this.#call = call;
    this.#creditBytes = windowBytes;
    queue.onItem = () => this.#schedule();
    call.on("drain", () => {
      this.#blocked = false;
      this.#schedule();
    });
    this.#schedule();
  }

  grant(bytes: number): void {
    this.#creditBytes += bytes;
    this.#schedule();
  }

  /** After the present step, so that what one step puts in can be joined. */
  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      try {
        this.#pump();
      } catch (failure) {
        // An item on disk that cannot be read back.
        this.fail(failure as Error);
      }
    });
  }

  #pump(): void {
    while (!this.#closed && ((!this.#blocked && this.#creditBytes > 0) || this.#isUrgent)) {
      const message = this.#nextMessage();
      if (message === undefined) return;
      if (!this.#call.write(message)) this.#blocked = true;
    }
  }

  /** A barrier is at the front that has overtaken what was to be sent. */
  get #isUrgent(): boolean {
    const front = this.#queue.peek();
    return front?.kind === "barrier" && front.barrier.overtakesAfterMs === 0;
  }

  #nextMessage(): Buffer | undefined {
    const queue = this.#queue;
    const before = queue.shiftedCount;
    const item = queue.shift();
    if (item === undefined) return undefined;
    const span = () => ({ itemCount: queue.shiftedCount - before, sequence: queue.shiftedCount });
    if (item.kind !== "data") {
      this.#creditBytes -= itemBytes(item);
      return encodeMark(item, span());
    }
    const chunks: Chunk[] = [item.chunk];
    let byteLength = item.chunk.data.byteLength;
    for (;;) {
      const next = queue.peek();
      if (next?.kind !== "data" || byteLength + next.chunk.data.byteLength > MAX_JOINED_BYTES) break;
      queue.shift();
      chunks.push(next.chunk);
      byteLength += next.chunk.data.byteLength;
    }
    // What the consumer will count, and give back, for the joined item.
    this.#creditBytes -= itemBytes(item) - item.chunk.data.byteLength + byteLength;
    return encodeData(chunks, span());
  }

  /** Ends the stream with the failure as its status. Idempotent. */
  fail(failure: Error): void {
    if (this.#closed) return;
    this.detach();
    this.#call.emit("error", toStatus(failure));
  }

  /** Sends nothing more: the consumer has gone. What waits stays in the queue. Idempotent. */
  detach(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue.onItem = undefined;
  }
}
