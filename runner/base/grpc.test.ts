import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import test, { type ExecutionContext } from "ava";
import { JobServiceDefinition } from "../../proto/gen/beam_job_api.ts";
import { userError, WeirError } from "./errors.ts";
import { freePort } from "../../test/support/storage-servers.ts";
import { type GenericService, GrpcServer, openClient, unaryCall, unaryHandler } from "./grpc.ts";

const JOB_SERVICE = JobServiceDefinition as unknown as GenericService;

/** @returns the error of a call of GetJobs at the address */
async function failedCall(t: ExecutionContext, address: string, deadlineMs = 30_000): Promise<WeirError> {
  const client = openClient(JOB_SERVICE, address);
  try {
    return await t.throwsAsync(unaryCall(client, "getJobs", {}, { deadlineMs }), { instanceOf: WeirError });
  } finally {
    client.close();
  }
}

/** @returns the port of a server that does with its connections as told */
async function listen(t: ExecutionContext, onConnection: (socket: Socket) => void): Promise<number> {
  const server: Server = createServer((socket) => {
    socket.on("error", () => undefined);
    t.teardown(() => socket.destroy());
    onConnection(socket);
  }).listen(0, "127.0.0.1");
  t.teardown(() => server.close());
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

test("a call to where nothing listens fails in one sentence, without grpc-js' own steps", async (t) => {
  const { code, message, retry } = await failedCall(t, "127.0.0.1:1");
  t.deepEqual([code, message, retry], ["UNAVAILABLE", "connect ECONNREFUSED 127.0.0.1:1.", true]);
});

test("a call to a server that is none of gRPC's says so", async (t) => {
  const port = await listen(t, (socket) => socket.end("HTTP/1.1 200 OK\r\n\r\n"));
  t.is((await failedCall(t, `127.0.0.1:${port}`)).message, "what answers there is no gRPC server.");
});

test("a call that a server does not answer in time says how long it waited", async (t) => {
  const port = await listen(t, () => undefined);
  const { code, message } = await failedCall(t, `127.0.0.1:${port}`, 100);
  t.is(code, "DEADLINE_EXCEEDED");
  t.regex(message, /^no answer within [\d.]+ s\.$/);
});

test("what a service answers comes as it is, over several lines too", async (t) => {
  const answer = "ParDo(f) failed:\nTraceback\n  Last error: (no)";
  const handlers = { getJobs: unaryHandler(() => Promise.reject(userError("NOT_FOUND", answer))) };
  const server = await GrpcServer.open([{ service: JOB_SERVICE, handlers }], "localhost", 0);
  t.teardown(() => server.close());
  const { code, message } = await failedCall(t, server.address);
  t.deepEqual([code, message], ["NOT_FOUND", answer]);
});

test("a new client connects at once where an earlier one has failed", async (t) => {
  const answer = { getJobs: unaryHandler(() => Promise.resolve({ jobInfo: [] })) };
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const earlier = openClient(JOB_SERVICE, address);
  t.teardown(() => earlier.close());
  // It stays: its connection waits before it tries again.
  await t.throwsAsync(unaryCall(earlier, "getJobs", {}), { instanceOf: WeirError });
  const server = await GrpcServer.open([{ service: JOB_SERVICE, handlers: answer }], "127.0.0.1", port);
  t.teardown(() => server.close());
  const client = openClient(JOB_SERVICE, address);
  t.teardown(() => client.close());
  t.deepEqual(await unaryCall(client, "getJobs", {}), { jobInfo: [] });
});
