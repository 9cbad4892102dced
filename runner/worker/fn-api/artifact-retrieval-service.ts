/**
 * Artifact retrieval for SDK harnesses: a proxy to the job server's retrieval service, so that a harness needs to
 * reach its own worker only.
 */
import { ArtifactRetrievalServiceDefinition } from "../../../proto/gen/beam_artifact_api.ts";
import { userError } from "../../base/errors.ts";
import type { GenericService, ServedService } from "../../base/grpc.ts";
import { proxyService } from "../../base/grpc-proxy.ts";
import type { HarnessId } from "../../base/ids.ts";

export interface ArtifactRetrievalServiceInit {
  /** HOST:PORT of the retrieval service that has the artifacts of the harness's job; undefined for an unknown harness. */
  readonly addressFor: (harnessId: HarnessId) => string | undefined;
}

const RESOLVE_DEADLINE_MS = 60_000;

export function artifactRetrievalService(init: ArtifactRetrievalServiceInit): ServedService {
  const service = ArtifactRetrievalServiceDefinition as unknown as GenericService;
  return proxyService(
    service,
    (metadata) => {
      const harnessId = (metadata.get("worker_id")[0] ?? "").toString() as HarnessId;
      const address = init.addressFor(harnessId);
      if (address === undefined || address === "")
        throw userError("NOT_FOUND", `No SDK harness with worker_id "${harnessId}" was started by this worker.`);
      return address;
    },
    RESOLVE_DEADLINE_MS,
  );
}
