/**
 * ArtifactRetrievalService for SDK harnesses: hands out the files of the artifact store, and nothing else of this
 * machine.
 */
import { once } from "node:events";
import type * as grpc from "@grpc/grpc-js";
import {
  ArtifactRetrievalServiceDefinition,
  type GetArtifactRequest,
  type GetArtifactResponse,
  type ResolveArtifactsRequest,
  type ResolveArtifactsResponse,
} from "../../proto/gen/beam_artifact_api.ts";
import { ArtifactFilePayload, EmbeddedFilePayload } from "../../proto/gen/beam_runner_api.ts";
import { userError } from "../base/errors.ts";
import { type GenericService, type ServedService, toStatus, unaryHandler } from "../base/grpc.ts";
import type { ArtifactSpec } from "../graph/execution-graph.ts";
import { EMBEDDED_URN, FILE_URN } from "./artifact-role.ts";
import type { ArtifactStore } from "./artifact-store.ts";

type RetrievalCall = grpc.ServerWritableStream<GetArtifactRequest, GetArtifactResponse>;

/** The service over `store`. */
export function artifactRetrieval(store: ArtifactStore): ServedService {
  return {
    service: ArtifactRetrievalServiceDefinition as unknown as GenericService,
    handlers: {
      // Staging has resolved everything to files already.
      resolveArtifacts: unaryHandler<ResolveArtifactsRequest, ResolveArtifactsResponse>((request) => ({
        replacements: request.artifacts,
      })),
      getArtifact: (call: RetrievalCall) => {
        send(store, call).then(
          () => call.end(),
          (thrown: unknown) => {
            if (!call.cancelled) call.emit("error", toStatus(thrown));
          },
        );
      },
    } as unknown as grpc.UntypedServiceImplementation,
  };
}

async function send(store: ArtifactStore, call: RetrievalCall): Promise<void> {
  const abort = new AbortController();
  call.on("cancelled", () => abort.abort());
  call.on("error", () => undefined);
  for await (const data of content(store, call.request.artifact)) {
    if (abort.signal.aborted) return;
    if (!call.write({ data })) await once(call, "drain", { signal: abort.signal });
  }
}

function content(
  store: ArtifactStore,
  artifact: ArtifactSpec | undefined,
): AsyncIterable<Uint8Array> | Iterable<Uint8Array> {
  switch (artifact?.typeUrn) {
    case FILE_URN:
      return store.read(ArtifactFilePayload.decode(artifact.typePayload).path);
    case EMBEDDED_URN:
      return [EmbeddedFilePayload.decode(artifact.typePayload).data];
    default:
      throw userError("INVALID_ARGUMENT", `Artifacts of type ${artifact?.typeUrn ?? "(none)"} are not served here.`);
  }
}
