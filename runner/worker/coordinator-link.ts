/**
 * A worker's stream to its job server: registers, beats, hands over what the job server sends, and tells when the job
 * server is gone.
 *
 * Invariants: it ends once, and hands nothing over after that; without a word for the length of the lease it ends; a job
 * server with a leader epoch below one that this process has heard of is refused, since another one has replaced it.
 */
import type * as grpc from "@grpc/grpc-js";
import {
  CoordinatorDefinition,
  type CoordinatorMessage,
  type RegisterWorker,
  type WorkerMessage,
} from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import { failureText, type GenericService, openClient } from "../base/grpc.ts";
import type { Log } from "../base/log.ts";

/** The highest leader epoch that a process has heard of, over all of its links. */
export class LeaderEpochs {
  #highest = 0n;

  get highest(): bigint {
    return this.#highest;
  }

  /** @returns false for an epoch that is over */
  accepts(epoch: bigint): boolean {
    if (epoch < this.#highest) return false;
    this.#highest = epoch;
    return true;
  }
}

export interface CoordinatorLinkInit {
  /** HOST:PORT of the job server's coordinator service. */
  readonly coordinator: string;
  readonly registration: RegisterWorker;
  readonly epochs: LeaderEpochs;
  readonly onMessage: (message: NonNullable<CoordinatorMessage["message"]>) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** A job server that has taken the stream has so long to take the worker. */
const REGISTRATION_MS = 10_000;

export class CoordinatorLink {
  readonly #init: CoordinatorLinkInit;
  readonly #client: grpc.Client;
  readonly #stream: grpc.ClientDuplexStream<WorkerMessage, CoordinatorMessage>;
  readonly #ended = Promise.withResolvers<string>();
  readonly #abort = new AbortController();
  #lastContactMs: number;
  #isRegistered = false;

  /** Connects; `ended` tells if that fails. */
  constructor(init: CoordinatorLinkInit) {
    this.#init = init;
    const { coordinator, registration, clock, log } = init;
    this.#lastContactMs = clock.monotonicMs();
    const client = openClient(CoordinatorDefinition as unknown as GenericService, coordinator);
    this.#client = client;
    const connect = client["connect"] as () => grpc.ClientDuplexStream<WorkerMessage, CoordinatorMessage>;
    this.#stream = connect.call(client);
    this.send({ $case: "register", value: registration });
    this.#stream.on("data", (message: CoordinatorMessage) => this.#onMessage(message));
    this.#stream.on("end", () => this.#gone("it closed the stream"));
    this.#stream.on("error", (failure: Error) => {
      log.debug({ err: failure }, "coordinator stream broke");
      this.#gone(failureText(failure));
    });
    clock.sleep(REGISTRATION_MS, this.#abort.signal).then(
      () => {
        if (!this.#isRegistered) this.#gone(`it did not answer for ${REGISTRATION_MS} ms`);
      },
      () => undefined,
    );
  }

  /** Resolves with the reason when the job server is gone. */
  get ended(): Promise<string> {
    return this.#ended.promise;
  }

  /** The job server has taken the worker. */
  get isRegistered(): boolean {
    return this.#isRegistered;
  }

  send(message: NonNullable<WorkerMessage["message"]>): void {
    if (!this.#abort.signal.aborted) this.#stream.write({ message });
  }

  #gone(reason: string): void {
    this.#end(`the job server at ${this.#init.coordinator} is gone (${reason})`);
  }

  #end(reason: string): void {
    this.#abort.abort();
    this.#ended.resolve(reason);
  }

  #onMessage({ leaderEpoch, message }: CoordinatorMessage): void {
    if (this.#abort.signal.aborted) return;
    const { coordinator, epochs, clock, onMessage } = this.#init;
    if (!epochs.accepts(leaderEpoch)) {
      const stale = `its leader epoch is ${leaderEpoch}, and another job server had ${epochs.highest}`;
      this.#end(`the job server at ${coordinator} has been replaced: ${stale}`);
      return;
    }
    this.#lastContactMs = clock.monotonicMs();
    if (message === undefined) return;
    if (message.$case === "registered") {
      this.#isRegistered = true;
      const { heartbeatIntervalMs, leaseMs } = message.value;
      this.#beat(Number(heartbeatIntervalMs), Number(leaseMs)).catch(() => undefined);
    } else onMessage(message);
  }

  async #beat(intervalMs: number, leaseMs: number): Promise<void> {
    const { clock } = this.#init;
    const { signal } = this.#abort;
    while (!signal.aborted) {
      this.send({ $case: "heartbeat", value: { residentBytes: BigInt(process.memoryUsage.rss()) } });
      await clock.sleep(intervalMs, signal);
      if (clock.monotonicMs() - this.#lastContactMs > leaseMs)
        this.#end(`no word from the job server for ${leaseMs} ms`);
    }
  }

  /** Idempotent. */
  close(): void {
    this.#end("the worker has ended");
    this.#stream.end();
    this.#client.close();
  }
}
