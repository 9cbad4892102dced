/**
 * The producer's side of the exchange: serves the sealed partitions of this worker's store to other workers, a stream
 * per partition, and sends no more than the consumer has granted.
 *
 * Source: exchange.proto. Errors are statuses: NOT_FOUND for a partition that is not here, ABORTED for one that is
 * released while it is read; the consumer takes either for a lost partition.
 */
import type * as grpc from "@grpc/grpc-js";
import { ExchangeDefinition, ReadRequest } from "../../../proto/gen/exchange.ts";
import { WeirError } from "../../base/errors.ts";
import { type GenericService, type ServedService, toStatus } from "../../base/grpc.ts";
import type { DatasetId, JobId, TaskAttemptId } from "../../base/ids.ts";
import type { PartitionKey, PartitionStore } from "../../state/partition-store.ts";
import { encodeReadResponse, END_RESPONSE, RAW_METHODS } from "./encode-read-response.ts";
import { ExchangeCredit } from "./exchange-credit.ts";

export interface ExchangeServiceInit {
  /** Small chunks are joined up to this size before they are sent. */
  readonly chunkBytes: number;
}

/** Larger messages are not cheaper to send, and joining copies. */
const MAX_JOINED_BYTES = 256 * 1024;

type ReadCall = grpc.ServerDuplexStream<Buffer, Buffer>;

/** The Exchange service over a worker's store; registered with the worker's exchange server. */
export function exchangeService(store: Pick<PartitionStore, "read">, init: ExchangeServiceInit): ServedService {
  const joinedBytes = Math.min(init.chunkBytes, MAX_JOINED_BYTES);
  const read = (call: ReadCall): void => {
    const abort = new AbortController();
    let credit: ExchangeCredit | undefined;
    const serve = async (request: ReadRequest): Promise<void> => {
      credit = new ExchangeCredit(Number(request.creditBytes));
      const chunks = store.read(partitionKeyOf(request), abort.signal, joinedBytes);
      await send(call, chunks, credit, abort.signal);
    };
    call.on("data", (message: Buffer) => {
      const request = ReadRequest.decode(message);
      if (credit !== undefined) {
        credit.grant(Number(request.creditBytes));
        return;
      }
      serve(request).then(
        () => call.end(),
        (failure: unknown) => {
          if (!abort.signal.aborted) call.emit("error", toStatus(failure));
        },
      );
    });
    call.on("cancelled", () => abort.abort(cancelled()));
    // A half-closed stream is a consumer that needs no more credit.
    call.on("end", () => undefined);
    call.on("error", () => abort.abort(cancelled()));
  };
  return { service: ExchangeDefinition as unknown as GenericService, handlers: { read }, raw: RAW_METHODS };
}

async function send(
  call: ReadCall,
  chunks: AsyncIterable<{ readonly data: Uint8Array; readonly elementCount: number }>,
  credit: ExchangeCredit,
  signal: AbortSignal,
): Promise<void> {
  for await (const chunk of chunks) {
    await credit.take(chunk.data.byteLength, signal);
    if (!call.write(encodeReadResponse(chunk.data, chunk.elementCount))) await drained(call, signal);
  }
  call.write(END_RESPONSE);
}

function drained(call: ReadCall, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const abort = () => {
      call.off("drain", onDrain);
      reject(signal.reason as Error);
    };
    const onDrain = () => {
      signal.removeEventListener("abort", abort);
      resolve();
    };
    call.once("drain", onDrain);
    signal.addEventListener("abort", abort, { once: true });
  });
}

function cancelled(): WeirError {
  return new WeirError({ code: "CANCELLED", domain: "internal", message: "The consumer stopped reading." });
}

function partitionKeyOf(request: ReadRequest): PartitionKey {
  return {
    jobId: request.jobId as JobId,
    datasetId: request.datasetId as DatasetId,
    attemptId: request.taskAttemptId as TaskAttemptId,
    index: request.partition,
  };
}
