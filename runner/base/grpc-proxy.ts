/**
 * Services that pass their calls on to another server. Messages pass through as bytes, undecoded, errors with their code
 * and text; a slow caller slows the other server's stream.
 *
 * Each call has a connection of its own: what goes through here is asked for a few times and never again.
 */
import type * as grpc from "@grpc/grpc-js";
import { assert } from "./assert.ts";
import { WeirError } from "./errors.ts";
import {
  fromStatus,
  type GenericService,
  openClient,
  type ServedService,
  toStatus,
  unaryCall,
  unaryHandler,
} from "./grpc.ts";

/** HOST:PORT of the server that answers a call. What it throws is the call's error. */
export type AddressFor = (metadata: grpc.Metadata) => string | Promise<string>;

/** @param deadlineMs of unary calls */
export function proxyService(service: GenericService, addressFor: AddressFor, deadlineMs: number): ServedService {
  const raw = new Set(Object.keys(service.methods));
  const handlers: Record<string, grpc.UntypedHandleCall> = {};
  for (const [name, { requestStream, responseStream }] of Object.entries(service.methods)) {
    assert(!requestStream, "a proxy passes on single requests");
    if (responseStream)
      handlers[name] = (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
        passStream(call).catch((thrown: unknown) => {
          if (!call.cancelled) call.emit("error", toStatus(thrown));
        });
      };
    else
      handlers[name] = unaryHandler<Buffer, Buffer>(async (request, call) => {
        const client = openClient(service, await addressFor(call.metadata), raw);
        try {
          return await unaryCall<Buffer, Buffer>(client, name, request, { deadlineMs });
        } finally {
          client.close();
        }
      });

    async function passStream(call: grpc.ServerWritableStream<Buffer, Buffer>): Promise<void> {
      const client = openClient(service, await addressFor(call.metadata), raw);
      try {
        const open = client[name] as (request: Buffer) => grpc.ClientReadableStream<Buffer>;
        await pass(open.call(client, call.request), call);
      } finally {
        client.close();
      }
    }
  }
  return { service, handlers, raw };
}

async function pass(
  upstream: grpc.ClientReadableStream<Buffer>,
  call: grpc.ServerWritableStream<Buffer, Buffer>,
): Promise<void> {
  call.on("cancelled", () => upstream.cancel());
  try {
    for await (const message of upstream) {
      if (call.cancelled) return;
      if (!call.write(message)) await drained(call);
    }
  } catch (failure) {
    throw isServiceError(failure) ? fromStatus(failure) : WeirError.from(failure);
  } finally {
    upstream.cancel();
  }
  call.end();
}

/** Resolves when `call` takes more, or never will. */
function drained(call: grpc.ServerWritableStream<Buffer, Buffer>): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      for (const event of EVENTS) call.off(event, done);
      resolve();
    };
    const EVENTS = ["drain", "close", "cancelled", "error"] as const;
    for (const event of EVENTS) call.once(event, done);
  });
}

function isServiceError(failure: unknown): failure is grpc.ServiceError {
  return failure instanceof Error && typeof (failure as Partial<grpc.ServiceError>).code === "number";
}
