/**
 * What an artifact is called and where a harness would put it. A staged name is chosen by the client and becomes a
 * path in the harness' folder, so it has to stay there.
 */
import {
  ArtifactFilePayload,
  ArtifactStagingToRolePayload,
  ArtifactUrlPayload,
} from "../../proto/gen/beam_runner_api.ts";
import { userError } from "../base/errors.ts";
import type { ArtifactSpec } from "../graph/execution-graph.ts";

export const FILE_URN = "beam:artifact:type:file:v1";
export const URL_URN = "beam:artifact:type:url:v1";
export const EMBEDDED_URN = "beam:artifact:type:embedded:v1";
const STAGING_TO_URN = "beam:artifact:role:staging_to:v1";

/** @throws WeirError INVALID_ARGUMENT when the artifact's staged name is no relative path below its folder. */
export function checkRole(artifact: ArtifactSpec): void {
  if (artifact.roleUrn !== STAGING_TO_URN) return;
  const name = stagedName(artifact);
  const segments = name.split(/[/\\]/);
  const leaves = name === "" || name.includes("\0") || segments.includes("..") || /^([/\\]|[A-Za-z]:)/.test(name);
  if (leaves || segments.every((segment) => segment === "" || segment === ".")) {
    throw userError(
      "INVALID_ARGUMENT",
      `Artifact ${artifactLabel(artifact)} is to be staged as ${JSON.stringify(name)}, which is not inside of the artifact folder.`,
      "Use a relative name without `..`.",
    );
  }
}

/** A name for messages: the staged name, or where it comes from. */
export function artifactLabel(artifact: ArtifactSpec): string {
  try {
    if (artifact.roleUrn === STAGING_TO_URN) return JSON.stringify(stagedName(artifact));
    if (artifact.typeUrn === FILE_URN) return JSON.stringify(ArtifactFilePayload.decode(artifact.typePayload).path);
    if (artifact.typeUrn === URL_URN) return JSON.stringify(ArtifactUrlPayload.decode(artifact.typePayload).url);
  } catch {
    // Bytes that are no payload: the URN has to do.
  }
  return artifact.typeUrn;
}

function stagedName(artifact: ArtifactSpec): string {
  try {
    return ArtifactStagingToRolePayload.decode(artifact.rolePayload).stagedName;
  } catch {
    throw userError("INVALID_ARGUMENT", `The role of an artifact of type ${artifact.typeUrn} cannot be decoded.`);
  }
}
