/** Connections to the exchanges of other workers, one per address, for a client of one of their services. */
import * as grpc from "@grpc/grpc-js";
import { WeirError } from "../../base/errors.ts";
import { CHANNEL_OPTIONS, type GenericService, serviceDefinition } from "../../base/grpc.ts";

const EXCHANGE_CHANNEL_OPTIONS: grpc.ChannelOptions = {
  ...CHANNEL_OPTIONS,
  // The default of 64 KiB would need a round trip for each; credit bounds the bytes instead.
  "grpc-node.flow_control_window": 1024 * 1024,
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 1_000,
  // A worker whose machine vanished sends no FIN.
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // HTTP/2's window of a whole connection: a partition that nobody reads on must not hold up a channel.
  "grpc.use_local_subchannel_pool": 1,
};

export class ExchangeConnections<Stub> {
  readonly #Client: grpc.ServiceClientConstructor;
  readonly #clients = new Map<string, grpc.Client>();
  #closed = false;

  /** @param raw the methods whose messages are Buffers */
  constructor(service: GenericService, raw: ReadonlySet<string>) {
    this.#Client = grpc.makeClientConstructor(serviceDefinition(service, raw), service.fullName);
  }

  /** @throws WeirError CANCELLED after `close`. */
  get(address: string): Stub {
    if (this.#closed) throw new WeirError({ code: "CANCELLED", domain: "internal", message: "The worker is ending." });
    let client = this.#clients.get(address);
    if (client === undefined) {
      client = new this.#Client(address, grpc.credentials.createInsecure(), EXCHANGE_CHANNEL_OPTIONS);
      this.#clients.set(address, client);
    }
    return client as unknown as Stub;
  }

  /** Streams that run on the connection go on; the next `get` opens another one. */
  forget(address: string): void {
    this.#clients.get(address)?.close();
    this.#clients.delete(address);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Idempotent. */
  close(): void {
    this.#closed = true;
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }
}
