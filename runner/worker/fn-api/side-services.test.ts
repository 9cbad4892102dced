import * as grpc from "@grpc/grpc-js";
import test from "ava";
import { ArtifactRetrievalServiceDefinition, type GetArtifactResponse } from "../../../proto/gen/beam_artifact_api.ts";
import {
  type LogControl,
  type LogEntry,
  type LogEntry_List,
  type WorkerStatusRequest,
  type WorkerStatusResponse,
} from "../../../proto/gen/beam_fn_api.ts";
import { ProvisionInfo } from "../../../proto/gen/beam_provision_api.ts";
import { systemClock } from "../../base/clock.ts";
import { WeirError, userError } from "../../base/errors.ts";
import {
  type GenericService,
  GrpcServer,
  type ServedService,
  openClient,
  toStatus,
  unaryCall,
  unaryHandler,
} from "../../base/grpc.ts";
import type { HarnessId } from "../../base/ids.ts";
import { artifactRetrievalService } from "./artifact-retrieval-service.ts";
import { type LogEntryPlain, loggingService } from "./logging-service.ts";
import { provisionService } from "./provision-service.ts";
import { workerStatusService } from "./worker-status-service.ts";

type Client = grpc.Client & Record<string, unknown>;

async function serve(
  served: ServedService,
): Promise<{ server: GrpcServer; client: Client; close: () => Promise<void> }> {
  const server = await GrpcServer.open([served], "localhost", 0);
  const client = openClient(served.service, server.address);
  return {
    server,
    client,
    close: async () => {
      client.close();
      await server.close();
    },
  };
}

function metadataOf(harnessId: string): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set("worker_id", harnessId);
  return metadata;
}

function duplex<Request, Response>(
  client: Client,
  method: string,
  harnessId: string,
): grpc.ClientDuplexStream<Request, Response> {
  const open = client[method] as (metadata: grpc.Metadata) => grpc.ClientDuplexStream<Request, Response>;
  const call = open.call(client, metadataOf(harnessId));
  call.on("error", () => undefined);
  return call;
}

test("log entries arrive as plain entries of their harness, long messages cut in the middle", async (t) => {
  const got = Promise.withResolvers<{ harnessId: HarnessId; entries: readonly LogEntryPlain[] }>();
  const { client, close } = await serve(
    loggingService({ onEntries: (harnessId, entries) => got.resolve({ harnessId, entries }) }),
  );
  const call = duplex<LogEntry_List, LogControl>(client, "logging", "harness-1");
  const entry: LogEntry = {
    severity: 6,
    timestamp: { seconds: 12n, nanos: 500_000_000 },
    message: `head${"x".repeat(1_000_000)}tail`,
    trace: "Traceback",
    instructionId: "bundle-1",
    transformId: "map",
    logLocation: "a.py:1",
    thread: "main",
    customData: undefined,
  };
  call.write({ logEntries: [entry] });
  const { harnessId, entries } = await got.promise;
  t.is(harnessId, "harness-1" as HarnessId);
  const { message, ...rest } = entries[0] as LogEntryPlain;
  t.deepEqual(rest, {
    severity: "ERROR",
    timeMs: 12_500,
    trace: "Traceback",
    instructionId: "bundle-1",
    transformId: "map",
    logLocation: "a.py:1",
    thread: "main",
  });
  t.true(message.length < 40_000 && message.startsWith("headx") && message.endsWith("xtail"));
  const ended = new Promise((resolve) => call.on("status", resolve));
  call.resume();
  call.end();
  t.is(((await ended) as grpc.StatusObject).code, grpc.status.OK);
  await close();
});

test("a harness that logs faster than it is read is held back, and nothing is lost", async (t) => {
  const messages: string[] = [];
  let taking = 0;
  const { client, close } = await serve(
    loggingService({
      onEntries: async (_harnessId, entries) => {
        t.is(++taking, 1);
        await new Promise(setImmediate);
        messages.push(...entries.map((entry) => entry.message));
        taking--;
      },
    }),
  );
  const call = duplex<LogEntry_List, LogControl>(client, "logging", "harness-1");
  const ended = new Promise((resolve) => call.on("status", resolve));
  for (let index = 0; index < 100; index++)
    call.write({
      logEntries: [{ severity: 3, message: `${index}`, trace: "", instructionId: "", transformId: "" } as LogEntry],
    });
  call.resume();
  call.end();
  await ended;
  while (messages.length < 100) await new Promise(setImmediate);
  t.deepEqual(
    messages,
    Array.from({ length: 100 }, (_, index) => `${index}`),
  );
  await close();
});

test("provision info is given to a harness that was started here, and to no other", async (t) => {
  const info = ProvisionInfo.fromPartial({
    pipelineOptions: { "beam:option:job_name:v1": "n", nested: { list: [1, "two"] } },
    controlEndpoint: { url: "localhost:1" },
    runnerCapabilities: ["a"],
  });
  const { client, close } = await serve(
    provisionService({ infoFor: (harnessId) => (harnessId === "harness-1" ? info : undefined) }),
  );
  const ask = (metadata: grpc.Metadata) =>
    unaryCall<object, { info: ProvisionInfo }>(client, "getProvisionInfo", {}, { metadata });
  const answer = await ask(metadataOf("harness-1"));
  t.deepEqual(answer.info.pipelineOptions, info.pipelineOptions);
  t.is(answer.info.controlEndpoint?.url, "localhost:1");
  await t.throwsAsync(ask(metadataOf("stranger")), { message: /"stranger" was started by this worker/ });
  await t.throwsAsync(ask(new grpc.Metadata()), { message: /no worker_id metadata/ });
  await close();
});

test("artifacts pass through from the job server, whole and with its errors", async (t) => {
  const chunks = Array.from({ length: 50 }, (_, index) => Buffer.alloc(100_000, index));
  const upstream = await GrpcServer.open(
    [
      {
        service: ArtifactRetrievalServiceDefinition as unknown as GenericService,
        handlers: {
          resolveArtifacts: unaryHandler((request: { artifacts: unknown[] }) => ({ replacements: request.artifacts })),
          getArtifact: (call: grpc.ServerWritableStream<{ artifact?: { typeUrn: string } }, GetArtifactResponse>) => {
            if (call.request.artifact?.typeUrn === "missing") {
              call.emit("error", toStatus(userError("NOT_FOUND", "No such artifact.")));
              return;
            }
            for (const data of chunks) call.write({ data });
            call.end();
          },
        } as unknown as grpc.UntypedServiceImplementation,
      },
    ],
    "localhost",
    0,
  );
  const { server, close } = await serve(
    artifactRetrievalService({ addressFor: (harnessId) => (harnessId === "harness-1" ? upstream.address : undefined) }),
  );
  const client = openClient(ArtifactRetrievalServiceDefinition as unknown as GenericService, server.address);
  const artifact = { typeUrn: "t", typePayload: new Uint8Array([1]), roleUrn: "r", rolePayload: new Uint8Array() };
  const resolved = await unaryCall<object, { replacements: unknown[] }>(
    client,
    "resolveArtifacts",
    { artifacts: [artifact], preferredUrns: [] },
    { metadata: metadataOf("harness-1") },
  );
  t.is(resolved.replacements.length, 1);
  const get = async (typeUrn: string, harnessId: string): Promise<Buffer> => {
    const open = client["getArtifact"] as (
      request: object,
      metadata: grpc.Metadata,
    ) => grpc.ClientReadableStream<GetArtifactResponse>;
    const got: Uint8Array[] = [];
    for await (const message of open.call(client, { artifact: { ...artifact, typeUrn } }, metadataOf(harnessId)))
      got.push((message as GetArtifactResponse).data);
    return Buffer.concat(got);
  };
  t.true((await get("t", "harness-1")).equals(Buffer.concat(chunks)));
  await t.throwsAsync(get("missing", "harness-1"), { message: /No such artifact/ });
  await t.throwsAsync(get("t", "stranger"), { message: /"stranger" was started by this worker/ });
  client.close();
  await upstream.close();
  await close();
});

test("a harness's status is asked for over its stream; silence and loss are told apart", async (t) => {
  const status = workerStatusService({ clock: systemClock });
  const { client, close } = await serve(status.served);
  const id = "harness-1" as HarnessId;
  await t.throwsAsync(status.requestStatus(id, 1_000), { instanceOf: WeirError, message: /has no status stream/ });
  const call = duplex<WorkerStatusResponse, WorkerStatusRequest>(client, "workerStatus", id);
  let answers = true;
  const asked = Promise.withResolvers<void>();
  call.on("data", (request: WorkerStatusRequest) => {
    if (answers) call.write({ id: request.id, error: "", statusInfo: "all threads wait" });
    else asked.resolve();
  });
  while (!status.has(id)) await new Promise(setImmediate);
  t.is(await status.requestStatus(id, 10_000), "all threads wait");
  answers = false;
  await t.throwsAsync(status.requestStatus(id, 1), { message: /did not answer within 1 ms/ });
  const lost = status.requestStatus(id, 60_000);
  lost.catch(() => undefined);
  await asked.promise;
  call.cancel();
  await t.throwsAsync(lost, { message: /has gone/ });
  t.false(status.has(id));
  await close();
});
