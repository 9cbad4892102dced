import type * as grpc from "@grpc/grpc-js";
import test, { type ExecutionContext } from "ava";
import { CoordinatorDefinition, type CoordinatorMessage, type WorkerMessage } from "../../proto/gen/worker.ts";
import { systemClock } from "../base/clock.ts";
import { type GenericService, GrpcServer } from "../base/grpc.ts";
import { silentLog } from "../base/log.ts";
import { CoordinatorLink, LeaderEpochs } from "./coordinator-link.ts";

type Stream = grpc.ServerDuplexStream<WorkerMessage, CoordinatorMessage>;

/** A job server of which the test holds the streams. */
async function openServer(t: ExecutionContext) {
  const streams: Stream[] = [];
  const registered = Promise.withResolvers<void>();
  const beaten = Promise.withResolvers<void>();
  const server = await GrpcServer.open(
    [
      {
        service: CoordinatorDefinition as unknown as GenericService,
        handlers: {
          connect: (stream: Stream) => {
            streams.push(stream);
            stream.on("data", ({ message }: WorkerMessage) => {
              registered.resolve();
              if (message?.$case === "heartbeat") beaten.resolve();
            });
            stream.on("error", () => undefined);
          },
        } as grpc.UntypedServiceImplementation,
      },
    ],
    "localhost",
    0,
  );
  t.teardown(() => server.close(0));
  const told: string[] = [];
  const link = (epochs: LeaderEpochs, coordinator = server.address) => {
    const opened = new CoordinatorLink({
      coordinator,
      registration: { workerId: "w", exchangeAddress: "e:1", pid: 1n, slots: 1, version: "0", local: false },
      epochs,
      onMessage: ({ $case }) => told.push($case),
      clock: systemClock,
      log: silentLog(),
    });
    t.teardown(() => opened.close());
    return opened;
  };
  const send = (leaderEpoch: bigint, message: CoordinatorMessage["message"]) =>
    streams.at(-1)?.write({ leaderEpoch, message });
  return { link, send, told, registered: registered.promise, beaten: beaten.promise, streams };
}

const lease = (leaseMs: bigint): CoordinatorMessage["message"] => ({
  $case: "registered",
  value: { heartbeatIntervalMs: 20n, leaseMs },
});
const release: CoordinatorMessage["message"] = { $case: "releaseJob", value: { jobId: "j" } };

test("a worker refuses a job server that another one has replaced, and nothing of it reaches the worker", async (t) => {
  const server = await openServer(t);
  const epochs = new LeaderEpochs();
  t.true(epochs.accepts(7n));
  const link = server.link(epochs);
  await server.registered;
  server.send(6n, lease(60_000n));
  server.send(6n, release);
  t.regex(await link.ended, /has been replaced: its leader epoch is 6, and another job server had 7/);
  t.false(link.isRegistered);
  t.deepEqual(server.told, []);
});

test("messages of the same job server and of a later one are handed over", async (t) => {
  const server = await openServer(t);
  const epochs = new LeaderEpochs();
  const first = server.link(epochs);
  await server.registered;
  server.send(6n, lease(60_000n));
  server.send(6n, release);
  server.streams[0]?.end();
  t.regex(await first.ended, /is gone \(it closed the stream\)/);
  t.true(first.isRegistered);
  t.deepEqual(server.told, ["releaseJob"]);
  t.is(epochs.highest, 6n);
});

test("without a word for the length of the lease the link ends, though the stream is open", async (t) => {
  const server = await openServer(t);
  const link = server.link(new LeaderEpochs());
  await server.registered;
  // Long enough for a heartbeat to come before, on a machine that has much to do.
  server.send(1n, lease(2_000n));
  await server.beaten;
  t.is(await link.ended, "no word from the job server for 2000 ms");
});

test("a job server that is not there ends the link", async (t) => {
  const server = await openServer(t);
  const link = server.link(new LeaderEpochs(), "localhost:1");
  t.regex(await link.ended, /^the job server at localhost:1 is gone \(connect ECONNREFUSED [\d.:]+\)$/);
  t.false(link.isRegistered);
});
