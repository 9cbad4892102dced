/**
 * Artifact retrieval for SDK harnesses: a proxy to the job server's retrieval service, so that a harness needs to
 * reach its own worker only. Messages pass through as bytes, undecoded; a slow harness slows the job server's stream.
 *
 * Each call has a connection of its own: a harness asks for a few files at its start and never again.
 */
import type * as grpc from "@grpc/grpc-js";
import { ArtifactRetrievalServiceDefinition } from "../../../proto/gen/beam_artifact_api.ts";
import { WeirError, userError } from "../../base/errors.ts";
import {
  type GenericService,
  type ServedService,
  fromStatus,
  openClient,
  toStatus,
  unaryCall,
  unaryHandler,
} from "../../base/grpc.ts";
import type { HarnessId } from "../../base/ids.ts";

export interface ArtifactRetrievalServiceInit {
  /** HOST:PORT of the retrieval service that has the artifacts of the harness's job; undefined for an unknown harness. */
  readonly addressFor: (harnessId: HarnessId) => string | undefined;
}

const RAW: ReadonlySet<string> = new Set(["resolveArtifacts", "getArtifact"]);
const RESOLVE_DEADLINE_MS = 60_000;
const SERVICE = ArtifactRetrievalServiceDefinition as unknown as GenericService;

export function artifactRetrievalService(init: ArtifactRetrievalServiceInit): ServedService {
  const resolveArtifacts = unaryHandler<Buffer, Buffer>(async (request, call) => {
    const client = openClient(SERVICE, addressOf(init, call.metadata), RAW);
    try {
      return await unaryCall<Buffer, Buffer>(client, "resolveArtifacts", request, { deadlineMs: RESOLVE_DEADLINE_MS });
    } finally {
      client.close();
    }
  });
  const getArtifact: grpc.handleServerStreamingCall<Buffer, Buffer> = (call) => {
    passThrough(init, call).catch((thrown: unknown) => {
      if (!call.cancelled) call.emit("error", toStatus(thrown));
    });
  };
  return {
    service: SERVICE,
    handlers: { resolveArtifacts, getArtifact } as unknown as grpc.UntypedServiceImplementation,
    raw: RAW,
  };
}

async function passThrough(
  init: ArtifactRetrievalServiceInit,
  call: grpc.ServerWritableStream<Buffer, Buffer>,
): Promise<void> {
  const client = openClient(SERVICE, addressOf(init, call.metadata), RAW);
  try {
    const open = client["getArtifact"] as (request: Buffer) => grpc.ClientReadableStream<Buffer>;
    const upstream = open.call(client, call.request);
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
  } finally {
    client.close();
  }
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

function addressOf(init: ArtifactRetrievalServiceInit, metadata: grpc.Metadata): string {
  const harnessId = (metadata.get("worker_id")[0] ?? "").toString() as HarnessId;
  const address = init.addressFor(harnessId);
  if (address === undefined || address === "")
    throw userError("NOT_FOUND", `No SDK harness with worker_id "${harnessId}" was started by this worker.`);
  return address;
}
