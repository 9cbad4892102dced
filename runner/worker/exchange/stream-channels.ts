/**
 * The channels of a worker's streaming tasks. Both ends on this worker are one queue, which whoever comes first
 * creates; a producer's queue for another worker is drained by the stream of its subscriber, which may come before
 * the producer has opened it.
 *
 * Invariants: the execution attempts of a job's region are fenced: once an attempt is closed, nothing opens or subscribes to
 * it or to an older one. A channel has one subscriber; a second one is taken only while nothing was handed to the first.
 */
import { ChannelExchangeDefinition, SubscribeRequest } from "../../../proto/gen/exchange.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { WeirError } from "../../base/errors.ts";
import { type GenericService, type ServedService, toStatus } from "../../base/grpc.ts";
import { type ChannelId, channelKey, ChannelQueue } from "../stream/channel-queue.ts";
import type { Channels } from "../stream/stream-ports.ts";
import { AttemptFences } from "./attempt-fences.ts";
import { ChannelSender, type SubscribeCall } from "./channel-sender.ts";
import { type ChannelExchangeStub, type ChannelProducer, ChannelSubscription } from "./channel-subscription.ts";
import { ExchangeConnections } from "./exchange-connections.ts";

export interface StreamChannelsInit {
  readonly workerId: string;
  readonly clock?: Clock;
  /** A subscriber waits so long for a producer that has not opened the channel; then it may ask again. */
  readonly producerWaitMs?: number;
  /** Default: gRPC. */
  readonly connections?: ChannelConnections;
}

/** How other workers' exchanges are reached. */
export type ChannelConnections = Pick<
  ExchangeConnections<ChannelExchangeStub>,
  "get" | "forget" | "isClosed" | "close"
>;

/** Tasks of a job are deployed within seconds; the subscriber asks again for minutes. */
const PRODUCER_WAIT_MS = 30_000;

const RAW_METHODS: ReadonlySet<string> = new Set(["subscribe"]);
const SERVICE = ChannelExchangeDefinition as unknown as GenericService;

interface LocalChannel {
  readonly queue: ChannelQueue;
  sender: ChannelSender | undefined;
}

interface Waiter {
  readonly id: ChannelId;
  readonly key: string;
  readonly abort: AbortController;
}

export class StreamChannels implements Channels {
  readonly #workerId: string;
  readonly #clock: Clock;
  readonly #producerWaitMs: number;
  readonly #connections: ChannelConnections;
  readonly #fences = new AttemptFences();
  readonly #local = new Map<string, LocalChannel>();
  readonly #subscriptions = new Map<string, ChannelSubscription>();
  /** Subscribers of channels that are not open yet. */
  readonly #waiters = new Set<Waiter>();
  #closed = false;

  constructor(init: StreamChannelsInit) {
    this.#workerId = init.workerId;
    this.#clock = init.clock ?? systemClock;
    this.#producerWaitMs = init.producerWaitMs ?? PRODUCER_WAIT_MS;
    this.#connections = init.connections ?? new ExchangeConnections<ChannelExchangeStub>(SERVICE, RAW_METHODS);
  }

  /** The service that other workers subscribe to; for the worker's exchange server. */
  get served(): ServedService {
    return {
      service: SERVICE,
      handlers: { subscribe: (call: SubscribeCall) => this.#onSubscribe(call) },
      raw: RAW_METHODS,
    };
  }

  /** @throws WeirError ABORTED for an execution attempt that was closed. */
  openOutput(id: ChannelId, capacityBytes: number): ChannelQueue {
    const { queue } = this.#openLocal(id, capacityBytes);
    const key = channelKey(id);
    for (const waiter of this.#waiters) if (waiter.key === key) waiter.abort.abort();
    return queue;
  }

  /** @throws WeirError ABORTED for an execution attempt that was closed. */
  openInput(
    id: ChannelId,
    capacityBytes: number,
    producer: ChannelProducer,
    onLost: (failure: Error) => void,
  ): ChannelQueue {
    if (producer.workerId === this.#workerId) {
      const { queue } = this.#openLocal(id, capacityBytes);
      queue.hasConsumer = true;
      return queue;
    }
    this.#check(id);
    const key = channelKey(id);
    const known = this.#subscriptions.get(key);
    if (known !== undefined) return known.queue;
    const subscription = new ChannelSubscription({
      id,
      capacityBytes,
      producer,
      connections: this.#connections,
      onLost,
      clock: this.#clock,
    });
    this.#subscriptions.set(key, subscription);
    return subscription.queue;
  }

  closeRegion(jobId: string, region: number, keepAttempt?: number): void {
    const isOf = (id: ChannelId) => id.jobId === jobId && id.region === region;
    this.#fences.raise({ jobId, region }, keepAttempt ?? this.#newestAttempt(isOf) + 1);
    const isOver = (id: ChannelId) => isOf(id) && this.#fences.isOver(id);
    this.#end(isOver, () => this.#fences.overError({ jobId, region }));
  }

  /** Ends every channel, and every connection. Idempotent. */
  close(): Promise<void> {
    this.#closed = true;
    this.#end(() => true, ending);
    this.#connections.close();
    return Promise.resolve();
  }

  #end(isOver: (id: ChannelId) => boolean, failure: () => WeirError): void {
    for (const [key, channel] of this.#local) {
      if (!isOver(channel.queue.id)) continue;
      channel.sender?.fail(failure());
      this.#local.delete(key);
    }
    for (const [key, subscription] of this.#subscriptions) {
      if (!isOver(subscription.queue.id)) continue;
      subscription.close();
      this.#subscriptions.delete(key);
    }
    for (const waiter of this.#waiters) if (isOver(waiter.id)) waiter.abort.abort();
  }

  /** Of what was opened here. A subscriber may be ahead of this worker: it waits for an attempt that is to come. */
  #newestAttempt(isOf: (id: ChannelId) => boolean): number {
    const ids = [...this.#local.values(), ...this.#subscriptions.values()].map(({ queue }) => queue.id);
    return Math.max(-1, ...ids.filter(isOf).map((id) => id.executionAttempt));
  }

  #check(id: ChannelId): void {
    if (this.#closed) throw ending();
    if (this.#fences.isOver(id)) throw this.#fences.overError(id);
  }

  #openLocal(id: ChannelId, capacityBytes: number): LocalChannel {
    this.#check(id);
    const key = channelKey(id);
    let channel = this.#local.get(key);
    if (channel === undefined) {
      channel = { queue: new ChannelQueue(id, capacityBytes), sender: undefined };
      this.#local.set(key, channel);
    }
    return channel;
  }

  #onSubscribe(call: SubscribeCall): void {
    const gone = new AbortController();
    let isFirst = true;
    let sender: ChannelSender | undefined;
    // What is granted before the producer has opened the channel.
    let creditBytes = 0;
    const subscribe = async (request: SubscribeRequest): Promise<void> => {
      const channel = await this.#producerOf(request, gone.signal);
      if (channel === undefined || gone.signal.aborted) return;
      takeOver(channel, request);
      sender = channel.sender = new ChannelSender(channel.queue, call, creditBytes);
    };
    call.on("data", (message: Buffer) => {
      const request = SubscribeRequest.decode(message);
      creditBytes += Number(request.creditBytes);
      if (!isFirst) {
        sender?.grant(Number(request.creditBytes));
        return;
      }
      isFirst = false;
      subscribe(request).catch((failure: unknown) => {
        if (!gone.signal.aborted) call.emit("error", toStatus(failure));
      });
    });
    const leave = () => {
      gone.abort();
      sender?.detach();
    };
    call.on("cancelled", leave);
    call.on("error", leave);
    // A consumer that grants no more credit is still there.
    call.on("end", () => undefined);
  }

  /** The channel once its producer has opened it; undefined when the subscriber left. @throws NOT_FOUND, ABORTED. */
  async #producerOf(id: ChannelId, left: AbortSignal): Promise<LocalChannel | undefined> {
    const key = channelKey(id);
    this.#check(id);
    if (!this.#local.has(key)) {
      const waiter = { id, key, abort: new AbortController() };
      this.#waiters.add(waiter);
      const signal = AbortSignal.any([waiter.abort.signal, left]);
      await this.#clock.sleep(this.#producerWaitMs, signal).catch(() => undefined);
      this.#waiters.delete(waiter);
      if (left.aborted) return undefined;
      this.#check(id);
    }
    const channel = this.#local.get(key);
    if (channel !== undefined) return channel;
    throw new WeirError({
      code: "NOT_FOUND",
      domain: "internal",
      message: `Subtask ${id.producerSubtask} has not opened dataset ${id.datasetId} for ${id.consumerVertexId}.`,
      retry: true,
    });
  }
}

/** Makes room for a subscriber. @throws WeirError DATA_LOSS when it would miss what a former one was given. */
function takeOver(channel: LocalChannel, request: SubscribeRequest): void {
  const handedOut = channel.queue.shiftedCount;
  if (handedOut >= Number(request.nextSequence))
    throw new WeirError({
      code: "DATA_LOSS",
      domain: "internal",
      message: `${handedOut} items of dataset ${request.datasetId} went to a former subscriber.`,
      retry: true,
    });
  channel.sender?.fail(
    new WeirError({ code: "ABORTED", domain: "internal", message: "Another subscriber has the channel." }),
  );
}

function ending(): WeirError {
  return new WeirError({ code: "UNAVAILABLE", domain: "internal", message: "The worker is ending." });
}
