import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type * as grpc from "@grpc/grpc-js";
import test, { type ExecutionContext } from "ava";
import {
  ArtifactRetrievalServiceDefinition,
  type ArtifactRequestWrapper,
  type ArtifactResponseWrapper,
  ArtifactStagingServiceDefinition,
  type GetArtifactResponse,
} from "../../proto/gen/beam_artifact_api.ts";
import { ArtifactFilePayload, ArtifactStagingToRolePayload } from "../../proto/gen/beam_runner_api.ts";
import { present } from "../base/assert.ts";
import type { WeirError } from "../base/errors.ts";
import { fromStatus, type GenericService, GrpcServer, openClient } from "../base/grpc.ts";
import { silentLog } from "../base/log.ts";
import type { ArtifactSpec } from "../graph/execution-graph.ts";
import { artifactRetrieval } from "./artifact-retrieval.ts";
import { FILE_URN } from "./artifact-role.ts";
import { ArtifactStaging } from "./artifact-staging.ts";
import { ArtifactStore } from "./artifact-store.ts";

type Client = grpc.Client & Record<string, unknown>;

interface Fixture {
  readonly staging: ArtifactStaging;
  readonly stagingClient: Client;
  readonly retrievalClient: Client;
  readonly directory: string;
  /** Files of the store. */
  files(): string[];
}

async function openServices(t: ExecutionContext): Promise<Fixture> {
  const directory = mkdtempSync(join(tmpdir(), "weir-artifacts-test-"));
  const store = await ArtifactStore.open({ directory, serverId: "s", clean: true });
  const staging = new ArtifactStaging(store, silentLog());
  const server = await GrpcServer.open([staging.served, artifactRetrieval(store)], "localhost", 0);
  const open = (service: unknown) => openClient(service as GenericService, server.address);
  const stagingClient = open(ArtifactStagingServiceDefinition);
  const retrievalClient = open(ArtifactRetrievalServiceDefinition);
  t.teardown(async () => {
    stagingClient.close();
    retrievalClient.close();
    await server.close();
    await store.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    staging,
    stagingClient,
    retrievalClient,
    directory,
    files: () => readdirSync(join(directory, "weir-s", "files")),
  };
}

function fileArtifact(path: string, stagedName: string, sha256 = ""): ArtifactSpec {
  return {
    typeUrn: FILE_URN,
    typePayload: ArtifactFilePayload.encode({ path, sha256 }).finish(),
    roleUrn: "beam:artifact:role:staging_to:v1",
    rolePayload: ArtifactStagingToRolePayload.encode({ stagedName }).finish(),
  };
}

test("a client with nothing to stage gets headers, then the end", async (t) => {
  const { staging, stagingClient } = await openServices(t);
  staging.register("token", new Map([["env", []]]));
  const open = stagingClient["reverseArtifactRetrievalService"] as () => grpc.ClientDuplexStream<
    ArtifactResponseWrapper,
    ArtifactRequestWrapper
  >;
  const stream = open.call(stagingClient);
  const seen: string[] = [];
  stream.on("metadata", () => seen.push("headers"));
  const ended = new Promise<void>((resolve) => {
    stream.on("status", ({ code }: grpc.StatusObject) => {
      seen.push(`status ${code}`);
      resolve();
    });
  });
  stream.resume();
  stream.write({ stagingToken: "token", isLast: false, response: undefined });
  await ended;
  t.deepEqual(seen, ["headers", "status 0"]);
  t.deepEqual(await staging.stagedDependencies("token"), new Map([["env", []]]));
});

/** Answers as Python's offer_artifacts does, until the server ends the stream. @returns the paths asked for. */
function offer(
  client: Client,
  stagingToken: string,
  contents: ReadonlyMap<string, readonly Buffer[]>,
): Promise<string[]> {
  const open = client["reverseArtifactRetrievalService"] as () => grpc.ClientDuplexStream<
    ArtifactResponseWrapper,
    ArtifactRequestWrapper
  >;
  const stream = open.call(client);
  const asked: string[] = [];
  const data = (bytes: Buffer, isLast: boolean): ArtifactResponseWrapper => ({
    stagingToken: "",
    isLast,
    response: { $case: "getArtifactResponse", value: { data: bytes } },
  });
  stream.write({ stagingToken, isLast: false, response: undefined });
  return new Promise((resolve, reject) => {
    stream.on("data", ({ request }: ArtifactRequestWrapper) => {
      if (request?.$case === "resolveArtifact") {
        const value = { replacements: request.value.artifacts };
        stream.write({ stagingToken: "", isLast: false, response: { $case: "resolveArtifactResponse", value } });
      } else if (request?.$case === "getArtifact") {
        const { path } = ArtifactFilePayload.decode(present(request.value.artifact, "artifact").typePayload);
        asked.push(path);
        for (const chunk of contents.get(path) ?? []) stream.write(data(chunk, false));
        stream.write(data(Buffer.alloc(0), true));
      }
    });
    stream.once("error", (failure: grpc.ServiceError) => reject(fromStatus(failure)));
    // The request side is still open: the server alone has ended the stream.
    stream.once("end", () => resolve(asked));
  });
}

async function retrieve(client: Client, artifact: ArtifactSpec): Promise<{ sha256: string; byteLength: number }> {
  const open = client["getArtifact"] as (request: object) => grpc.ClientReadableStream<GetArtifactResponse>;
  const stream = open.call(client, { artifact });
  const hash = createHash("sha256");
  let byteLength = 0;
  try {
    for await (const { data } of stream as AsyncIterable<GetArtifactResponse>) {
      hash.update(data);
      byteLength += data.byteLength;
    }
  } catch (thrown) {
    throw fromStatus(thrown as grpc.ServiceError);
  }
  return { sha256: hash.digest("hex"), byteLength };
}

test("a file of 50 MB is staged, found under its checksum, retrieved unchanged, and removed with its job", async (t) => {
  const { staging, stagingClient, retrievalClient, files } = await openServices(t);
  const chunks = Array.from({ length: 25 }, (_, index) => Buffer.alloc(2 * 1024 * 1024, index));
  const sha256 = createHash("sha256").update(Buffer.concat(chunks)).digest("hex");
  const big = fileArtifact("/client/big.tar.gz", "big.tar.gz", sha256);
  const small = fileArtifact("/client/main.py", "main.py");
  const contents = new Map([
    ["/client/big.tar.gz", chunks],
    ["/client/main.py", [Buffer.from("print()")]],
  ]);
  staging.register(
    "token",
    new Map([
      ["python", [big, small]],
      ["other", [big]],
      ["bare", []],
    ]),
  );
  t.deepEqual(await offer(stagingClient, "token", contents), ["/client/big.tar.gz", "/client/main.py"]);
  const staged = await staging.stagedDependencies("token");
  t.deepEqual([...staged.keys()], ["python", "other", "bare"]);
  const [first] = staged.get("python") ?? [];
  t.deepEqual(Uint8Array.from(first?.rolePayload ?? []), big.rolePayload);
  t.deepEqual(files().includes(sha256), true);
  t.deepEqual(await retrieve(retrievalClient, present(first, "artifact")), { sha256, byteLength: 50 * 1024 * 1024 });
  staging.forget("token");
  t.deepEqual(files(), []);
  const gone = await t.throwsAsync(retrieve(retrievalClient, present(first, "artifact")));
  t.is((gone as WeirError).code, "NOT_FOUND");
});

test("a file that two jobs share stays until both are over", async (t) => {
  const { staging, stagingClient, files } = await openServices(t);
  for (const token of ["one", "two"]) {
    staging.register(token, new Map([["python", [fileArtifact("/f", "f")]]]));
    await offer(stagingClient, token, new Map([["/f", [Buffer.from("same")]]]));
  }
  t.is(files().length, 1);
  staging.forget("one");
  t.is(files().length, 1);
  staging.forget("two");
  t.is(files().length, 0);
});

test("a wrong sha256 is refused, leaves no file, and staging again mends it", async (t) => {
  const { staging, stagingClient, files, directory } = await openServices(t);
  const sha256 = createHash("sha256").update("right").digest("hex");
  staging.register("token", new Map([["python", [fileArtifact("/f", "f.txt", sha256)]]]));
  const failure = await t.throwsAsync(offer(stagingClient, "token", new Map([["/f", [Buffer.from("wrong")]]])));
  t.is((failure as WeirError).code, "INVALID_ARGUMENT");
  t.regex(failure?.message ?? "", /"f\.txt" has sha256/);
  await t.throwsAsync(staging.stagedDependencies("token"), { message: /sha256/ });
  t.deepEqual([files(), readdirSync(join(directory, "weir-s", "incoming"))], [[], []]);
  await offer(stagingClient, "token", new Map([["/f", [Buffer.from("right")]]]));
  t.is((await staging.stagedDependencies("token")).get("python")?.length, 1);
});

test("staged names that leave their folder are refused", async (t) => {
  const { staging } = await openServices(t);
  for (const name of ["../x", "/etc/passwd", "a/../../x", "..", "", ".", "C:\\x", "..\\x", "a\0b"]) {
    const register = () => staging.register("token", new Map([["python", [fileArtifact("/f", name)]]]));
    t.throws(register, { message: /not inside of the artifact folder/ }, JSON.stringify(name));
  }
  t.notThrows(() => staging.register("token", new Map([["python", [fileArtifact("/f", "sub/..name.txt")]]])));
});

test("nothing outside of the store can be retrieved", async (t) => {
  const { retrievalClient, directory } = await openServices(t);
  const root = join(directory, "weir-s", "files");
  for (const path of ["/etc/passwd", `${root}/../../x`, `${root}/${"a".repeat(63)}`, "relative", ""]) {
    const failure = await t.throwsAsync(retrieve(retrievalClient, fileArtifact(path, "x")), undefined, path);
    t.is((failure as WeirError).code, "INVALID_ARGUMENT", path);
  }
});

test("what was not staged is missed by name, and an unknown token is told", async (t) => {
  const { staging, stagingClient } = await openServices(t);
  staging.register("token", new Map([["python", [fileArtifact("/f", "wheel.whl")]]]));
  await t.throwsAsync(staging.stagedDependencies("token"), { message: /"wheel\.whl"/ });
  const failure = await t.throwsAsync(offer(stagingClient, "nonsense", new Map()));
  t.is((failure as WeirError).code, "NOT_FOUND");
});
