/**
 * The workers of a job server: takes their registrations and heartbeats, hands their messages to whoever schedules,
 * and tells when one is lost: its stream ended, or it was silent for too long (a hung process keeps its stream).
 *
 * Every message to a worker carries the leader epoch; a worker that was given up is cut off and cannot come back
 * under its old id.
 */
import type * as grpc from "@grpc/grpc-js";
import {
  CoordinatorDefinition,
  type CoordinatorMessage,
  type RegisterWorker,
  type WorkerMessage,
} from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import { failureText, type GenericService, type ServedService } from "../base/grpc.ts";
import type { WorkerId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";

export interface RegisteredWorker {
  readonly workerId: WorkerId;
  readonly exchangeAddress: string;
  readonly slots: number;
  readonly local: boolean;
  readonly pid: number;
  send(message: NonNullable<CoordinatorMessage["message"]>): void;
}

export interface WorkerListener {
  workerJoined(worker: RegisteredWorker): void;
  workerLost(worker: RegisteredWorker, reason: string): void;
  workerMessage(worker: RegisteredWorker, message: NonNullable<WorkerMessage["message"]>): void;
}

const HEARTBEAT_INTERVAL_MS = 1_000;
/** Ten beats: a garbage collection pause or a slow disk must not cost a worker. */
const HEARTBEAT_TIMEOUT_MS = 10_000;

type WorkerStream = grpc.ServerDuplexStream<WorkerMessage, CoordinatorMessage>;

interface Entry {
  readonly worker: RegisteredWorker;
  readonly stream: WorkerStream;
  lastHeardMs: number;
}

export class WorkerRegistry {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #leaderEpoch: bigint;
  readonly #workers = new Map<WorkerId, Entry>();
  readonly #listeners = new Set<WorkerListener>();
  readonly #abort = new AbortController();

  constructor(init: { readonly clock: Clock; readonly log: Log; readonly leaderEpoch: bigint }) {
    this.#clock = init.clock;
    this.#log = init.log;
    this.#leaderEpoch = init.leaderEpoch;
    this.#watch().catch(() => undefined);
  }

  get workers(): RegisteredWorker[] {
    return [...this.#workers.values()].map((entry) => entry.worker);
  }

  listen(listener: WorkerListener): void {
    this.#listeners.add(listener);
  }

  unlisten(listener: WorkerListener): void {
    this.#listeners.delete(listener);
  }

  get served(): ServedService {
    return {
      service: CoordinatorDefinition as unknown as GenericService,
      handlers: { connect: (stream: WorkerStream) => this.#onStream(stream) } as grpc.UntypedServiceImplementation,
    };
  }

  #onStream(stream: WorkerStream): void {
    let entry: Entry | undefined;
    const lost = (reason: string) => {
      if (entry !== undefined) this.#lose(entry, reason);
    };
    stream.on("data", ({ message }: WorkerMessage) => {
      if (message === undefined) return;
      if (entry === undefined) {
        if (message.$case === "register") entry = this.#register(stream, message.value);
        return;
      }
      if (!this.#workers.has(entry.worker.workerId)) return;
      entry.lastHeardMs = this.#clock.monotonicMs();
      if (message.$case === "heartbeat") {
        // The echo is the worker's proof that its job server is alive.
        this.#write(stream, undefined);
        return;
      }
      for (const listener of [...this.#listeners]) listener.workerMessage(entry.worker, message);
    });
    stream.on("end", () => {
      lost("it ended its stream");
      stream.end();
    });
    stream.on("error", (failure: Error) => lost(failureText(failure)));
    stream.on("close", () => lost("its stream was closed"));
    stream.on("cancelled", () => lost("its stream was cut"));
  }

  #write(stream: WorkerStream, message: CoordinatorMessage["message"]): void {
    stream.write({ leaderEpoch: this.#leaderEpoch, message });
  }

  #register(stream: WorkerStream, request: RegisterWorker): Entry {
    const worker: RegisteredWorker = {
      workerId: request.workerId as WorkerId,
      exchangeAddress: request.exchangeAddress,
      slots: Math.max(1, request.slots),
      local: request.local,
      pid: Number(request.pid),
      send: (message) => this.#write(stream, message),
    };
    const entry: Entry = { worker, stream, lastHeardMs: this.#clock.monotonicMs() };
    this.#workers.set(worker.workerId, entry);
    worker.send({
      $case: "registered",
      value: { heartbeatIntervalMs: BigInt(HEARTBEAT_INTERVAL_MS), leaseMs: BigInt(HEARTBEAT_TIMEOUT_MS) },
    });
    this.#log.debug({ worker: worker.workerId, exchange: worker.exchangeAddress }, "worker joined");
    for (const listener of [...this.#listeners]) listener.workerJoined(worker);
    return entry;
  }

  #lose(entry: Entry, reason: string): void {
    if (!this.#workers.delete(entry.worker.workerId)) return;
    if (!this.#abort.signal.aborted) this.#log.warn({ worker: entry.worker.workerId, reason }, "worker lost");
    entry.stream.end();
    for (const listener of [...this.#listeners]) listener.workerLost(entry.worker, reason);
  }

  async #watch(): Promise<void> {
    for (;;) {
      await this.#clock.sleep(HEARTBEAT_INTERVAL_MS, this.#abort.signal);
      const now = this.#clock.monotonicMs();
      for (const entry of [...this.#workers.values()]) {
        if (now - entry.lastHeardMs > HEARTBEAT_TIMEOUT_MS)
          this.#lose(entry, `no heartbeat for ${HEARTBEAT_TIMEOUT_MS / 1000} s`);
      }
    }
  }

  close(): void {
    this.#abort.abort();
    for (const entry of this.#workers.values()) entry.stream.end();
  }
}
