/** Staged artifacts as the plan has them: files by path and checksum. */
import { ArtifactFilePayload } from "../../proto/gen/beam_runner_api.ts";
import { WeirError } from "../base/errors.ts";
import type { ArtifactSpec } from "../graph/execution-graph.ts";
import { artifactLabel, FILE_URN } from "./artifact-role.ts";

/** Undefined for an artifact that is no file. */
export function fileOf(artifact: ArtifactSpec): { readonly path: string; readonly sha256: string } | undefined {
  return artifact.typeUrn === FILE_URN ? ArtifactFilePayload.decode(artifact.typePayload) : undefined;
}

/** @throws WeirError NOT_FOUND naming the artifact when there is no path */
export function withPath(artifact: ArtifactSpec, path: string | undefined): ArtifactSpec {
  const sha256 = fileOf(artifact)?.sha256 ?? "";
  if (path === undefined)
    throw new WeirError({
      code: "NOT_FOUND",
      domain: "external",
      message: `Its staged file ${artifactLabel(artifact)} (sha256 ${sha256}) is not in the artifacts folder any more.`,
    });
  return { ...artifact, typePayload: ArtifactFilePayload.encode({ path, sha256 }).finish() };
}
