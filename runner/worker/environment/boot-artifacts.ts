/**
 * Fetches a job's staged files for `weir boot python`: resolved and read by the artifact retrieval service, streamed to
 * disk, their sha256 checked.
 *
 * Invariant: nothing is written outside of the folder, whatever names the service gives.
 * Source: Beam's sdks/go/pkg/beam/artifact/materialize.go.
 */
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, normalize, sep } from "node:path";
import { pipeline } from "node:stream/promises";
import type * as grpc from "@grpc/grpc-js";
import {
  ArtifactRetrievalServiceDefinition,
  type GetArtifactRequest,
  type GetArtifactResponse,
  type ResolveArtifactsRequest,
  type ResolveArtifactsResponse,
} from "../../../proto/gen/beam_artifact_api.ts";
import {
  ArtifactFilePayload,
  type ArtifactInformation,
  ArtifactStagingToRolePayload,
  ArtifactUrlPayload,
} from "../../../proto/gen/beam_runner_api.ts";
import { WeirError, userError } from "../../base/errors.ts";
import { type GenericService, fromStatus, openClient, unaryCall } from "../../base/grpc.ts";

/** A file in the staging folder. */
export interface StagedFile {
  /** Relative to the folder, as pip and the SDK know it. */
  readonly name: string;
  readonly sha256: string;
  /** It has the role of a requirements file, whatever its name. */
  readonly requirements: boolean;
}

const FILE_URN = "beam:artifact:type:file:v1";
const URL_URN = "beam:artifact:type:url:v1";
const STAGING_TO_URN = "beam:artifact:role:staging_to:v1";
const REQUIREMENTS_URN = "beam:artifact:role:pip_requirements_file:v1";
const RESOLVE_DEADLINE_MS = 120_000;

/** Fetches all files, one after the other, a later one of the same name over an earlier one. */
export async function fetchArtifacts(
  endpoint: string,
  metadata: grpc.Metadata,
  dependencies: readonly ArtifactInformation[],
  directory: string,
): Promise<readonly StagedFile[]> {
  if (dependencies.length === 0) return [];
  const client = openClient(ArtifactRetrievalServiceDefinition as unknown as GenericService, endpoint);
  try {
    const request: ResolveArtifactsRequest = { artifacts: [...dependencies], preferredUrns: [FILE_URN] };
    const { replacements } = await unaryCall<ResolveArtifactsRequest, ResolveArtifactsResponse>(
      client,
      "resolveArtifacts",
      request,
      { deadlineMs: RESOLVE_DEADLINE_MS, metadata },
    );
    const open = (artifact: ArtifactInformation) =>
      (
        client["getArtifact"] as (
          request: GetArtifactRequest,
          metadata: grpc.Metadata,
        ) => grpc.ClientReadableStream<GetArtifactResponse>
      ).call(client, { artifact }, metadata);
    const files = new Map<string, StagedFile>();
    for (const [index, artifact] of replacements.entries()) {
      const name = stagedName(artifact, index);
      const sha256 = await download(open(artifact), join(directory, name), name, expectedSha256(artifact));
      files.set(name, { name, sha256, requirements: artifact.roleUrn === REQUIREMENTS_URN });
    }
    return [...files.values()];
  } finally {
    client.close();
  }
}

/** Where in the folder an artifact goes. Pure. @throws WeirError when that would be outside of the folder. */
export function stagedName(artifact: ArtifactInformation, index: number): string {
  const name = givenName(artifact, index);
  const path = normalize(name);
  if (name === "" || name.includes("\0") || isAbsolute(path) || path === "." || path.split(sep).includes(".."))
    throw userError(
      "INVALID_ARGUMENT",
      `The artifact name ${JSON.stringify(name)} would leave the folder of staged files.`,
      "Stage it under a relative name.",
    );
  return path;
}

function givenName(artifact: ArtifactInformation, index: number): string {
  if (artifact.roleUrn === STAGING_TO_URN) return ArtifactStagingToRolePayload.decode(artifact.rolePayload).stagedName;
  switch (artifact.typeUrn) {
    case FILE_URN:
      return `${index}-${basename(ArtifactFilePayload.decode(artifact.typePayload).path)}`;
    case URL_URN:
      return `${index}-${basename(new URL(ArtifactUrlPayload.decode(artifact.typePayload).url).pathname)}`;
    default:
      throw userError(
        "UNIMPLEMENTED",
        `An artifact of type ${artifact.typeUrn} with role ${artifact.roleUrn || "(none)"} has no name to be staged under.`,
      );
  }
}

function expectedSha256(artifact: ArtifactInformation): string {
  if (artifact.typeUrn === FILE_URN) return ArtifactFilePayload.decode(artifact.typePayload).sha256;
  if (artifact.typeUrn === URL_URN) return ArtifactUrlPayload.decode(artifact.typePayload).sha256;
  return "";
}

async function download(
  stream: grpc.ClientReadableStream<GetArtifactResponse>,
  path: string,
  name: string,
  expected: string,
): Promise<string> {
  await mkdir(dirname(path), { recursive: true });
  const hash = createHash("sha256");
  try {
    await pipeline(
      stream,
      async function* (messages: AsyncIterable<GetArtifactResponse>) {
        for await (const { data } of messages) {
          hash.update(data);
          yield data;
        }
      },
      createWriteStream(path),
    );
  } catch (failure) {
    stream.cancel();
    const error =
      typeof (failure as grpc.ServiceError).code === "number"
        ? fromStatus(failure as grpc.ServiceError)
        : WeirError.from(failure);
    throw new WeirError({
      code: error.code,
      domain: "external",
      message: `The staged file ${JSON.stringify(name)} could not be fetched: ${error.message}`,
      cause: failure,
    });
  }
  const sha256 = hash.digest("hex");
  if (expected !== "" && expected !== sha256)
    throw new WeirError({
      code: "DATA_LOSS",
      domain: "external",
      message: `The staged file ${JSON.stringify(name)} is damaged: its sha256 is ${sha256}, not ${expected}.`,
      hint: "Submit the job again.",
    });
  return sha256;
}
