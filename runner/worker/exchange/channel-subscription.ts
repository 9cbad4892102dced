/**
 * The consumer's end of one channel from another worker: puts what arrives into the queue, and gives credit back for
 * what was taken out of it.
 *
 * Invariants: an item is put in exactly once and in order, checked by its sequence number; after the first one the
 * stream is never opened again, since what the producer sent into a broken one cannot be had again. `onLost` is called
 * at most once, and not after `close`. The subscription is the queue's one producer: it owns `onRoom`.
 */
import type * as grpc from "@grpc/grpc-js";
import { SubscribeRequest } from "../../../proto/gen/exchange.ts";
import type { Clock } from "../../base/clock.ts";
import { WeirError } from "../../base/errors.ts";
import { asBuffer, fromStatus } from "../../base/grpc.ts";
import { MAX_TIMESTAMP } from "../../time/timestamp.ts";
import { BufferDebloat } from "../stream/buffer-debloat.ts";
import { type ChannelId, ChannelQueue, itemBytes } from "../stream/channel-queue.ts";
import { decodeChannelMessage } from "./encode-channel-message.ts";
import type { ExchangeConnections } from "./exchange-connections.ts";

type ClientCall = grpc.ClientDuplexStream<Buffer, Buffer>;

/** A client of the ChannelExchange service. */
export type ChannelExchangeStub = grpc.Client & { subscribe(): ClientCall };

export interface ChannelProducer {
  readonly workerId: string;
  readonly exchangeAddress: string;
}

export interface ChannelSubscriptionInit {
  readonly id: ChannelId;
  readonly capacityBytes: number;
  readonly producer: ChannelProducer;
  readonly connections: Pick<ExchangeConnections<ChannelExchangeStub>, "get" | "forget" | "isClosed">;
  readonly onLost: (failure: Error) => void;
  readonly clock: Clock;
}

/** Waits before each further attempt to reach the worker. */
const UNREACHABLE_DELAYS_MS = [50, 100, 300, 900, 2_000];
/** Each time the producer's worker has already waited for the channel to be opened: minutes in all. */
const MAX_NOT_FOUND = 20;
/** Credit goes back when a part of the window was consumed: a message per item would cost more than the item. */
const GRANT_PARTS = 4;

export class ChannelSubscription {
  readonly queue: ChannelQueue;
  readonly #init: ChannelSubscriptionInit;
  readonly #abort = new AbortController();
  #call: ClientCall | undefined;
  #receivedBytes = 0;
  #grantedBytes = 0;
  /** What the producer may have sent and the consumer not taken. */
  #windowBytes: number;
  /** The producer has said that nothing but barriers follows. */
  #atEnd = false;

  constructor(init: ChannelSubscriptionInit) {
    this.#init = init;
    this.queue = new ChannelQueue(init.id, init.capacityBytes);
    this.queue.debloat = new BufferDebloat(init.capacityBytes, init.clock);
    this.#windowBytes = this.queue.capacityBytes;
    this.queue.onRoom = () => this.#grant();
    this.#run().catch((failure: unknown) => this.#lost(WeirError.from(failure)));
  }

  async #run(): Promise<void> {
    const { clock, connections, producer } = this.#init;
    let unreachable = 0;
    let notFound = 0;
    for (;;) {
      const failure = await this.#stream();
      if (this.#abort.signal.aborted) return;
      const isUntouched = this.queue.pushedCount === 0;
      const delayMs = UNREACHABLE_DELAYS_MS[unreachable];
      if (isUntouched && failure.code === "NOT_FOUND" && ++notFound < MAX_NOT_FOUND) continue;
      if (isUntouched && failure.code === "UNAVAILABLE" && delayMs !== undefined && !connections.isClosed) {
        unreachable++;
        await clock.sleep(delayMs, this.#abort.signal);
        continue;
      }
      if (failure.code === "UNAVAILABLE") connections.forget(producer.exchangeAddress);
      this.#lost(failure);
      return;
    }
  }

  /** One stream, to its end. It never ends well by itself: the consumer closes it. */
  #stream(): Promise<WeirError> {
    const { id, connections, producer } = this.#init;
    const { promise, resolve } = Promise.withResolvers<WeirError>();
    const call = connections.get(producer.exchangeAddress).subscribe();
    this.#call = call;
    call.on("data", (message: Buffer) => {
      if (this.#call !== call) return;
      try {
        this.#onMessage(message);
      } catch (failure) {
        resolve(WeirError.from(failure));
        this.#call = undefined;
        call.cancel();
      }
    });
    call.on("error", (failure) => resolve(fromStatus(failure as grpc.ServiceError)));
    call.on("status", () => resolve(dataLoss("The producer ended the stream.")));
    const request = {
      ...EMPTY_REQUEST,
      ...id,
      nextSequence: BigInt(this.queue.pushedCount + 1),
      creditBytes: BigInt(this.#windowBytes),
    };
    call.write(asBuffer(SubscribeRequest.encode(request).finish()));
    return promise;
  }

  #onMessage(bytes: Buffer): void {
    const { item, itemCount, sequence } = decodeChannelMessage(bytes);
    const expected = this.queue.pushedCount + itemCount;
    if (sequence !== expected) throw dataLoss(`Item ${sequence} arrived where ${expected} was due.`);
    if (item.kind === "watermark") this.#atEnd = item.timestamp >= MAX_TIMESTAMP;
    this.#receivedBytes += itemBytes(item);
    this.queue.push(item, itemCount);
    // A watermark that replaced another one frees room at once.
    this.#grant();
  }

  #grant(): void {
    const consumed = this.#receivedBytes - this.queue.bytes;
    const used = consumed - this.#grantedBytes;
    // A window gets smaller by what is not given back.
    const grant = Math.max(0, used + this.queue.capacityBytes - this.#windowBytes);
    if (Math.max(used, grant) * GRANT_PARTS < this.#windowBytes) return;
    this.#grantedBytes = consumed;
    this.#windowBytes += grant - used;
    if (grant === 0) return;
    const request = { ...EMPTY_REQUEST, creditBytes: BigInt(grant) };
    this.#call?.write(asBuffer(SubscribeRequest.encode(request).finish()));
  }

  #lost(failure: WeirError): void {
    if (this.#abort.signal.aborted) return;
    this.close();
    // Its worker has closed the job a little before this one: nothing that could still come is missing.
    if (failure.code === "ABORTED" && this.#atEnd) return;
    const { id, producer } = this.#init;
    const channel = `Dataset ${id.datasetId} from subtask ${id.producerSubtask} to ${id.consumerVertexId}`;
    const worker = `worker ${producer.workerId} (${producer.exchangeAddress})`;
    this.#init.onLost(
      new WeirError({
        code: failure.code,
        domain: "internal",
        message: `${channel} subtask ${id.consumerSubtask} is cut off from ${worker}: ${failure.message}`,
        retry: true,
        ids: { job: id.jobId, dataset: id.datasetId, worker: producer.workerId },
        cause: failure,
      }),
    );
  }

  /** Ends the stream. What has arrived stays in the queue. Idempotent. */
  close(): void {
    this.#abort.abort();
    this.queue.onRoom = undefined;
    const call = this.#call;
    this.#call = undefined;
    call?.cancel();
  }
}

const EMPTY_REQUEST: SubscribeRequest = {
  jobId: "",
  region: 0,
  executionAttempt: 0,
  datasetId: "",
  producerSubtask: 0,
  consumerVertexId: "",
  consumerSubtask: 0,
  nextSequence: 0n,
  creditBytes: 0n,
};

function dataLoss(message: string): WeirError {
  return new WeirError({ code: "DATA_LOSS", domain: "internal", message, retry: true });
}
