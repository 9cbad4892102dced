/**
 * The gRPC streams between the exchanges of simulated workers: the real channels (StreamChannels) on both ends, a
 * simulated network in between. A worker that dies breaks its streams; the other side sees that after a while.
 */
import { EventEmitter } from "node:events";
import { status } from "@grpc/grpc-js";
import type { ChannelExchangeStub } from "../../runner/worker/exchange/channel-subscription.ts";
import type { StreamChannels, StreamChannelsInit } from "../../runner/worker/exchange/stream-channels.ts";
import { type LinkDelays, SimulatedLink } from "./simulated-link.ts";
import type { SeededRandom, SimulatedTime } from "./simulated-time.ts";

type Subscribe = (call: EventEmitter) => void;

interface Endpoint {
  readonly channels: StreamChannels;
  isAlive(): boolean;
}

/** A broken connection is noticed within so long. */
const NOTICE_MS = 300;

class ClientEnd extends EventEmitter {
  server: ServerEnd | undefined;
  readonly #link: SimulatedLink;
  readonly #stream: SimulatedStream;

  constructor(link: SimulatedLink, stream: SimulatedStream) {
    super();
    this.#link = link;
    this.#stream = stream;
  }

  write(message: Buffer): boolean {
    this.#link.send(() => this.#stream.toServer("data", message));
    return true;
  }

  cancel(): void {
    this.#stream.endClient({ code: status.CANCELLED, details: "cancelled" });
    this.#link.send(() => this.#stream.endServer());
  }
}

class ServerEnd extends EventEmitter {
  readonly #link: SimulatedLink;
  readonly #stream: SimulatedStream;

  constructor(link: SimulatedLink, stream: SimulatedStream) {
    super();
    this.#link = link;
    this.#stream = stream;
    // As in grpc-js: what a handler emits as an error is the stream's status.
    this.on("error", (failure: { readonly code?: number; readonly message: string }) =>
      this.#link.send(() => this.#stream.endClient({ code: failure.code ?? status.UNKNOWN, details: failure.message })),
    );
  }

  write(message: Buffer): boolean {
    const copy = Buffer.from(message);
    this.#link.send(() => this.#stream.toClient("data", copy));
    return true;
  }
}

/** Both ends of one call. */
class SimulatedStream {
  readonly client: ClientEnd;
  readonly server: ServerEnd;
  readonly from: Endpoint;
  readonly to: Endpoint;
  #clientEnded = false;
  #serverEnded = false;

  constructor(from: Endpoint, to: Endpoint, forth: SimulatedLink, back: SimulatedLink) {
    this.from = from;
    this.to = to;
    this.client = new ClientEnd(forth, this);
    this.server = new ServerEnd(back, this);
  }

  toServer(event: string, message: Buffer): void {
    if (!this.#serverEnded && this.to.isAlive()) this.server.emit(event, message);
  }

  toClient(event: string, message: Buffer): void {
    if (!this.#clientEnded && this.from.isAlive()) this.client.emit(event, message);
  }

  endServer(): void {
    if (this.#serverEnded) return;
    this.#serverEnded = true;
    if (this.to.isAlive()) this.server.emit("cancelled");
  }

  endClient({ code, details }: { readonly code: number; readonly details: string }): void {
    if (this.#clientEnded) return;
    this.#clientEnded = true;
    if (!this.from.isAlive()) return;
    // Never within the call that ended it.
    queueMicrotask(() => this.client.emit("error", Object.assign(new Error(details), { code, details })));
  }
}

export class SimulatedExchange {
  readonly #time: SimulatedTime;
  readonly #random: SeededRandom;
  readonly #delays: LinkDelays;
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #streams = new Set<SimulatedStream>();

  constructor(time: SimulatedTime, random: SeededRandom, delays: LinkDelays) {
    this.#time = time;
    this.#random = random;
    this.#delays = delays;
  }

  join(address: string, endpoint: Endpoint): void {
    this.#endpoints.set(address, endpoint);
  }

  /** The connections of one worker to the others. */
  connections(from: () => Endpoint): NonNullable<StreamChannelsInit["connections"]> {
    return {
      get: (address) => ({ subscribe: () => this.#subscribe(from(), address) }) as unknown as ChannelExchangeStub,
      forget: () => undefined,
      isClosed: false,
      close: () => undefined,
    };
  }

  #subscribe(from: Endpoint, address: string): EventEmitter {
    const to = this.#endpoints.get(address);
    const forth = new SimulatedLink(this.#time, this.#random.fork(), this.#delays);
    const back = new SimulatedLink(this.#time, this.#random.fork(), this.#delays);
    const stream = new SimulatedStream(from, to ?? from, forth, back);
    const unreachable = { code: status.UNAVAILABLE, details: `nobody listens at ${address}` };
    if (to === undefined || !to.isAlive()) {
      this.#time.at(this.#random.next() * NOTICE_MS, () => stream.endClient(unreachable));
      return stream.client;
    }
    this.#streams.add(stream);
    forth.send(() => {
      if (!to.isAlive()) return;
      (to.channels.served.handlers.subscribe as unknown as Subscribe)(stream.server);
    });
    return stream.client;
  }

  /** The worker at the address has died: whoever talks to it notices within a while. */
  broke(endpoint: Endpoint): void {
    for (const stream of this.#streams) {
      if (stream.from !== endpoint && stream.to !== endpoint) continue;
      this.#streams.delete(stream);
      this.#time.at(this.#random.next() * NOTICE_MS, () => {
        stream.endServer();
        stream.endClient({ code: status.UNAVAILABLE, details: "the connection was reset" });
      });
    }
  }
}
