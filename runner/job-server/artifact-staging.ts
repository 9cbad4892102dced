/**
 * ArtifactStagingService: asks the client of a prepared job for the files that its environments depend on, stores
 * them, and turns the dependencies into files of our store.
 *
 * Source: beam_artifact_api.proto, ReverseArtifactRetrievalService: the client opens the stream with its staging
 * token and then answers our requests, one at a time. We end the stream when we have everything (the TypeScript SDK
 * waits for that), or with a status that says what is wrong.
 */
import * as grpc from "@grpc/grpc-js";
import {
  type ArtifactRequestWrapper,
  type ArtifactResponseWrapper,
  ArtifactStagingServiceDefinition,
} from "../../proto/gen/beam_artifact_api.ts";
import { ArtifactFilePayload, ArtifactUrlPayload, EmbeddedFilePayload } from "../../proto/gen/beam_runner_api.ts";
import { userError, WeirError } from "../base/errors.ts";
import { type GenericService, type ServedService, toStatus } from "../base/grpc.ts";
import type { Log } from "../base/log.ts";
import type { ArtifactSpec } from "../graph/execution-graph.ts";
import { artifactLabel, checkRole, EMBEDDED_URN, FILE_URN, URL_URN } from "./artifact-role.ts";
import type { ArtifactStore } from "./artifact-store.ts";

/** Environment id → its dependencies. */
export type DependencySets = ReadonlyMap<string, readonly ArtifactSpec[]>;

type StagingCall = grpc.ServerDuplexStream<ArtifactResponseWrapper, ArtifactRequestWrapper>;

interface Session {
  readonly dependencies: DependencySets;
  /** Set once a client has begun to stage; replaced when it tries again. */
  staging: Promise<DependencySets> | undefined;
}

export class ArtifactStaging {
  readonly #store: ArtifactStore;
  readonly #log: Log;
  readonly #sessions = new Map<string, Session>();

  constructor(store: ArtifactStore, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  /**
   * Opens a session for a prepared job; `token` also owns its files in the store.
   * @throws WeirError INVALID_ARGUMENT when an artifact's role would leave the folder of its harness.
   */
  register(token: string, dependencies: DependencySets): void {
    for (const artifacts of dependencies.values()) artifacts.forEach(checkRole);
    this.#sessions.set(token, { dependencies, staging: undefined });
  }

  /**
   * The dependencies as files of our store; waits for a client that is staging.
   * @throws WeirError FAILED_PRECONDITION when files are missing, or the error of the staging.
   */
  async stagedDependencies(token: string): Promise<DependencySets> {
    const session = this.#sessions.get(token);
    if (session?.staging !== undefined) return await session.staging;
    const missing = [...(session?.dependencies ?? [])].flatMap(([, artifacts]) => artifacts);
    const first = missing[0];
    if (first === undefined) return session?.dependencies ?? new Map();
    throw userError(
      "FAILED_PRECONDITION",
      `${missing.length} artifact(s) of the job were not staged, the first is ${artifactLabel(first)}.`,
      "Stage them through the ArtifactStagingService at the endpoint that Prepare returned, then call Run.",
    );
  }

  /** Ends the session and drops its files. Idempotent. */
  forget(token: string): void {
    this.#sessions.delete(token);
    this.#store.release(token);
  }

  get served(): ServedService {
    return {
      service: ArtifactStagingServiceDefinition as unknown as GenericService,
      handlers: {
        reverseArtifactRetrievalService: (call: StagingCall) => {
          this.#serve(call).then(
            () => call.end(),
            (thrown: unknown) => {
              if (!call.cancelled) call.emit("error", toStatus(thrown));
            },
          );
        },
      } as unknown as grpc.UntypedServiceImplementation,
    };
  }

  async #serve(call: StagingCall): Promise<void> {
    // A cut stream shows itself in the iterator; without a listener it would be an uncaught error.
    call.on("error", () => undefined);
    // Where nothing is to be staged the answer would be trailers alone, and the TypeScript SDK waits for headers forever.
    call.sendMetadata(new grpc.Metadata());
    const responses = new ResponseReader(call);
    const token = (await responses.next()).stagingToken;
    const session = this.#sessions.get(token);
    if (session === undefined) {
      throw userError(
        "NOT_FOUND",
        `No prepared job has the staging token ${JSON.stringify(token)}.`,
        "Call Prepare first.",
      );
    }
    const staging = this.#stage(token, session.dependencies, call, responses);
    session.staging = staging;
    try {
      await staging;
    } catch (thrown) {
      this.#log.warn({ err: thrown }, "artifact staging failed");
      throw thrown;
    }
  }

  async #stage(
    token: string,
    dependencies: DependencySets,
    call: StagingCall,
    responses: ResponseReader,
  ): Promise<DependencySets> {
    const staged = new Map<string, readonly ArtifactSpec[]>();
    /** What several environments depend on is fetched once. */
    const fetched = new Map<string, Promise<ArtifactSpec>>();
    for (const [environmentId, artifacts] of dependencies) {
      if (artifacts.length === 0) {
        staged.set(environmentId, []);
        continue;
      }
      const request = {
        artifacts: artifacts.map((artifact) => ({ ...artifact })),
        preferredUrns: [FILE_URN, EMBEDDED_URN],
      };
      call.write({ request: { $case: "resolveArtifact", value: request } });
      const files: ArtifactSpec[] = [];
      for (const artifact of await responses.replacements()) {
        checkRole(artifact);
        const key = `${artifact.typeUrn} ${Buffer.from(artifact.typePayload).toString("base64")}`;
        const file = fetched.get(key) ?? this.#fetch(token, artifact, call, responses);
        fetched.set(key, file);
        files.push({ ...(await file), roleUrn: artifact.roleUrn, rolePayload: artifact.rolePayload });
      }
      staged.set(environmentId, files);
    }
    return staged;
  }

  async #fetch(
    token: string,
    artifact: ArtifactSpec,
    call: StagingCall,
    responses: ResponseReader,
  ): Promise<ArtifactSpec> {
    const label = artifactLabel(artifact);
    let content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
    if (artifact.typeUrn === EMBEDDED_URN) {
      content = [EmbeddedFilePayload.decode(artifact.typePayload).data];
    } else {
      call.write({ request: { $case: "getArtifact", value: { artifact: { ...artifact } } } });
      content = responses.content(label);
    }
    const { path, sha256, byteLength } = await this.#store.put(token, content, promisedSha256(artifact), label);
    this.#log.debug({ artifact: label, sha256, byteLength }, "artifact staged");
    const typePayload = ArtifactFilePayload.encode({ path, sha256 }).finish();
    return { typeUrn: FILE_URN, typePayload, roleUrn: artifact.roleUrn, rolePayload: artifact.rolePayload };
  }
}

function promisedSha256(artifact: ArtifactSpec): string {
  if (artifact.typeUrn === FILE_URN) return ArtifactFilePayload.decode(artifact.typePayload).sha256;
  if (artifact.typeUrn === URL_URN) return ArtifactUrlPayload.decode(artifact.typePayload).sha256;
  return "";
}

/** The client's answers, pulled one at a time: what is not pulled is held back by flow control. */
class ResponseReader {
  readonly #iterator: AsyncIterator<ArtifactResponseWrapper>;

  constructor(call: StagingCall) {
    this.#iterator = call[Symbol.asyncIterator]() as AsyncIterator<ArtifactResponseWrapper>;
  }

  async next(): Promise<ArtifactResponseWrapper> {
    const result = await this.#iterator.next().catch((cause: unknown) => {
      throw new WeirError({
        code: "CANCELLED",
        domain: "external",
        message: "The client broke off its staging.",
        cause,
      });
    });
    if (result.done === true)
      throw userError("CANCELLED", "The client ended the stream before all artifacts were staged.");
    return result.value;
  }

  async replacements(): Promise<readonly ArtifactSpec[]> {
    const { response } = await this.next();
    if (response?.$case !== "resolveArtifactResponse")
      throw userError(
        "INVALID_ARGUMENT",
        "The client did not answer ResolveArtifacts with a resolve_artifact_response.",
      );
    return response.value.replacements;
  }

  async *content(label: string): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const { response, isLast } = await this.next();
      if (response?.$case === "getArtifactResponse") yield response.value.data;
      else if (!isLast)
        throw userError("INVALID_ARGUMENT", `The client did not answer GetArtifact for ${label} with its data.`);
      if (isLast) return;
    }
  }
}
