/**
 * The consumer's side of the exchange: reads sealed partitions of other workers over pooled channels, and hands back
 * credit for a chunk when its reader comes for the next one, so that no more than a window is in transit or waiting.
 *
 * Invariant: a read ends normally only after exactly the bytes and elements that the reference promises.
 */
import type * as grpc from "@grpc/grpc-js";
import { ExchangeDefinition, ReadRequest, ReadResponse } from "../../../proto/gen/exchange.ts";
import type { Chunk } from "../../base/chunk.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { WeirError } from "../../base/errors.ts";
import { asBuffer, fromStatus, type GenericService } from "../../base/grpc.ts";
import type { PartitionReader, PartitionRef } from "../task/ports.ts";
import { RAW_METHODS } from "./encode-read-response.ts";
import { ExchangeConnections } from "./exchange-connections.ts";
import { LostPartitionError } from "./lost-partition-error.ts";
import { verifyLength } from "./verify-length.ts";

export interface ExchangeClientInit {
  /** Bytes of one partition that are in transit or wait for its reader. */
  readonly creditBytes: number;
  readonly clock?: Clock;
}

/** Waits before each further attempt to reach a worker; an attempt may itself take as long as a connect takes. */
const RETRY_DELAYS_MS = [100, 300, 900];

type ReadCall = grpc.ClientDuplexStream<Buffer, Buffer>;
type ExchangeStub = grpc.Client & { read(): ReadCall };

export { LocalOrRemoteReader } from "./local-or-remote-reader.ts";

export class ExchangeClient implements PartitionReader {
  readonly #creditBytes: number;
  readonly #clock: Clock;
  readonly #connections = new ExchangeConnections<ExchangeStub>(
    ExchangeDefinition as unknown as GenericService,
    RAW_METHODS,
  );
  readonly #calls = new Set<ReadCall>();

  constructor(init: ExchangeClientInit) {
    this.#creditBytes = init.creditBytes;
    this.#clock = init.clock ?? systemClock;
  }

  /** @throws LostPartitionError when the worker or the partition is gone, or the signal's reason. */
  read(ref: PartitionRef, signal: AbortSignal): AsyncIterable<Chunk> {
    return verifyLength(ref, this.#attempts(ref, signal));
  }

  /** Tries again as long as the worker cannot be reached and nothing has been handed out. */
  async *#attempts(ref: PartitionRef, signal: AbortSignal): AsyncGenerator<Chunk> {
    for (let attempt = 0; ; attempt++) {
      let received = false;
      try {
        for await (const chunk of this.#stream(ref, signal)) {
          received = true;
          yield chunk;
        }
        return;
      } catch (failure) {
        signal.throwIfAborted();
        const error = WeirError.from(failure);
        const delayMs = RETRY_DELAYS_MS[attempt];
        if (error.code !== "UNAVAILABLE") throw new LostPartitionError(ref, error.message, error.code, error);
        if (received || delayMs === undefined || this.#connections.isClosed) {
          this.#connections.forget(ref.exchangeAddress);
          throw new LostPartitionError(ref, error.message, error.code, error);
        }
        await this.#clock.sleep(delayMs, signal);
      }
    }
  }

  async *#stream(ref: PartitionRef, signal: AbortSignal): AsyncGenerator<Chunk> {
    signal.throwIfAborted();
    const call = this.#connections.get(ref.exchangeAddress).read();
    const cancel = () => call.cancel();
    // Whoever iterates gets the failure; this one is for what comes after the end, by our own cancel.
    call.on("error", () => undefined);
    this.#calls.add(call);
    signal.addEventListener("abort", cancel, { once: true });
    try {
      call.write(requestOf(ref, this.#creditBytes));
      for await (const message of call as AsyncIterable<Buffer>) {
        const response = ReadResponse.decode(message);
        if (response.end) {
          call.end();
          return;
        }
        yield { data: response.data, elementCount: response.elementCount };
        call.write(creditOf(response.data.byteLength));
      }
    } catch (failure) {
      throw isServiceError(failure) ? fromStatus(failure) : failure;
    } finally {
      signal.removeEventListener("abort", cancel);
      this.#calls.delete(call);
      call.cancel();
    }
    throw new WeirError({ code: "DATA_LOSS", domain: "external", message: "The stream ended before the partition." });
  }

  /** Ends every read with an error, and every channel. Idempotent. */
  close(): Promise<void> {
    for (const call of this.#calls) call.cancel();
    this.#connections.close();
    return Promise.resolve();
  }
}

function requestOf(ref: PartitionRef, creditBytes: number): Buffer {
  const request = {
    jobId: ref.jobId,
    datasetId: ref.datasetId,
    partition: ref.index,
    taskAttemptId: ref.attemptId,
    creditBytes: BigInt(creditBytes),
  };
  return asBuffer(ReadRequest.encode(request).finish());
}

function creditOf(bytes: number): Buffer {
  const request = { jobId: "", datasetId: "", partition: 0, taskAttemptId: "", creditBytes: BigInt(bytes) };
  return asBuffer(ReadRequest.encode(request).finish());
}

function isServiceError(failure: unknown): failure is grpc.ServiceError {
  return failure instanceof Error && typeof (failure as grpc.ServiceError).code === "number";
}
