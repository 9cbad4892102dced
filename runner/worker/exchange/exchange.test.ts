import { tmpdir } from "node:os";
import test from "ava";
import { ReadResponse } from "../../../proto/gen/exchange.ts";
import type { Chunk } from "../../base/chunk.ts";
import type { Clock } from "../../base/clock.ts";
import { GrpcServer } from "../../base/grpc.ts";
import type { DatasetId, JobId, TaskAttemptId, WorkerId } from "../../base/ids.ts";
import { PartitionStore } from "../../state/partition-store.ts";
import type { PartitionRef } from "../task/ports.ts";
import { encodeReadResponse, END_RESPONSE } from "./encode-read-response.ts";
import { ExchangeClient } from "./exchange-client.ts";
import { ExchangeCredit } from "./exchange-credit.ts";
import { exchangeService } from "./exchange-server.ts";
import { LocalOrRemoteReader } from "./local-or-remote-reader.ts";
import { LostPartitionError } from "./lost-partition-error.ts";

const NEVER = new AbortController().signal;
const CHUNK_BYTES = 100_000;

interface Context {
  teardown(close: () => Promise<void>): void;
}

/** A worker with one sealed partition of `chunks` chunks, and a client that reads it. */
async function openExchange(
  t: Context,
  chunks: number,
  init: { creditBytes: number; clock?: Clock; inMemory?: boolean },
) {
  const partitionMemoryBytes = init.inMemory === true ? 1e9 : 1;
  const store = await PartitionStore.open({ directory: tmpdir(), partitionMemoryBytes, bundleMemoryBytes: 1e9 });
  const key = { jobId: "job" as JobId, datasetId: "data" as DatasetId, attemptId: "attempt" as TaskAttemptId };
  const writer = store.openDataset({ ...key, partitions: 1 });
  const written: Uint8Array[] = [];
  const segment = writer.beginSegment();
  for (let at = 0; at < chunks; at++) {
    const data = Uint8Array.from({ length: CHUNK_BYTES }, (_, byte) => (at + byte) & 0xff);
    written.push(data);
    await segment.append(0, { data, elementCount: 2 });
  }
  segment.commit();
  const [sealed] = writer.seal();
  const served = { open: 0, sentBytes: 0, allEnded: Promise.withResolvers<void>() };
  const watched = {
    async *read(...args: Parameters<PartitionStore["read"]>): AsyncGenerator<Chunk> {
      served.open++;
      // Of one stream: a client that finds its first connection broken opens another.
      let sentBytes = 0;
      try {
        for await (const chunk of store.read(...args)) {
          sentBytes += chunk.data.byteLength;
          served.sentBytes = Math.max(served.sentBytes, sentBytes);
          yield chunk;
        }
      } finally {
        if (--served.open === 0) served.allEnded.resolve();
      }
    },
  };
  const server = await GrpcServer.open([exchangeService(watched, { chunkBytes: CHUNK_BYTES })], "localhost", 0);
  const client = new ExchangeClient(init);
  t.teardown(async () => {
    await client.close();
    await server.close();
    await store.close();
  });
  const ref: PartitionRef = {
    ...key,
    index: 0,
    workerId: "remote" as WorkerId,
    exchangeAddress: server.address,
    byteLength: sealed?.byteLength ?? -1,
    elementCount: sealed?.elementCount ?? -1,
  };
  return { store, server, client, ref, served, expected: Buffer.concat(written) };
}

async function read(chunks: AsyncIterable<Chunk>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk.data);
  return Buffer.concat(parts);
}

/** A clock whose sleeps are over at once, and counted. */
function instantClock(): Clock & { sleptMs: number[] } {
  const sleptMs: number[] = [];
  return {
    sleptMs,
    nowMs: () => 0,
    monotonicMs: () => 0,
    sleep: (delayMs) => {
      sleptMs.push(delayMs);
      return Promise.resolve();
    },
  };
}

test("a partition many times the credit arrives in order, for several readers at once", async (t) => {
  for (const creditBytes of [1_000, 250_000, 8_000_000]) {
    const { client, ref, expected } = await openExchange(t, 30, { creditBytes });
    const reads = await Promise.all([1, 2, 3].map(() => read(client.read(ref, NEVER))));
    for (const data of reads) t.true(data.equals(expected));
  }
});

test("credit lets a window pass, and a chunk larger than the window only alone", async (t) => {
  const credit = new ExchangeCredit(100);
  await credit.take(60, NEVER);
  let sent = false;
  const blocked = credit.take(50, NEVER).then(() => {
    sent = true;
  });
  credit.grant(9);
  await Promise.resolve();
  t.false(sent);
  credit.grant(51);
  await blocked;
  const alone = credit.take(1_000, NEVER).then(() => "sent");
  credit.grant(50);
  t.is(await alone, "sent");
  const abort = new AbortController();
  const cancelled = credit.take(1, abort.signal);
  abort.abort(new Error("stop"));
  await t.throwsAsync(cancelled, { message: "stop" });
});

test("the hand-written response is the generated one", (t) => {
  for (const elementCount of [0, 127, 128, 3_000_000]) {
    const data = new Uint8Array(elementCount % 1000).fill(7);
    const decoded = ReadResponse.decode(encodeReadResponse(data, elementCount));
    t.deepEqual(Buffer.from(decoded.data), Buffer.from(data));
    t.is(decoded.elementCount, elementCount);
    t.false(decoded.end);
  }
  t.true(ReadResponse.decode(END_RESPONSE).end);
});

test("an unknown partition is lost, at once", async (t) => {
  const clock = instantClock();
  const { client, ref } = await openExchange(t, 1, { creditBytes: 1_000, clock });
  const unknown = { ...ref, attemptId: "another" as TaskAttemptId };
  const error = await t.throwsAsync(read(client.read(unknown, NEVER)), { instanceOf: LostPartitionError });
  t.is(error?.ref, unknown);
  t.is(error?.code, "NOT_FOUND");
  t.deepEqual(clock.sleptMs, []);
});

test("a worker that cannot be reached is tried again, then its partition is lost", async (t) => {
  const clock = instantClock();
  const { client, ref, server } = await openExchange(t, 1, { creditBytes: 1_000, clock });
  await server.close();
  const error = await t.throwsAsync(read(client.read(ref, NEVER)), { instanceOf: LostPartitionError });
  t.is(error?.code, "UNAVAILABLE");
  t.regex(error?.message ?? "", /Partition 0 of dataset data by task attempt attempt is lost with worker remote/);
  t.is(clock.sleptMs.length, 3);
});

test("a worker that dies in the middle of a read loses the partition without another try", async (t) => {
  const clock = instantClock();
  const { client, ref, server } = await openExchange(t, 30, { creditBytes: CHUNK_BYTES, clock });
  const reader = client.read(ref, NEVER)[Symbol.asyncIterator]();
  t.false((await reader.next()).done);
  await server.close();
  const rest = { [Symbol.asyncIterator]: () => reader };
  await t.throwsAsync(read(rest), { instanceOf: LostPartitionError });
  t.deepEqual(clock.sleptMs, []);
});

test("a partition that is released in the middle of a read is lost", async (t) => {
  const { client, ref, store } = await openExchange(t, 30, { creditBytes: CHUNK_BYTES });
  const reader = client.read(ref, NEVER)[Symbol.asyncIterator]();
  t.false((await reader.next()).done);
  await store.releaseJob(ref.jobId);
  const error = await t.throwsAsync(read({ [Symbol.asyncIterator]: () => reader }), {
    instanceOf: LostPartitionError,
  });
  t.is(error?.code, "ABORTED");
});

test("a partition of another length than was sealed is lost", async (t) => {
  const { client, ref } = await openExchange(t, 2, { creditBytes: 1_000_000 });
  for (const wrong of [{ byteLength: ref.byteLength + 1 }, { elementCount: ref.elementCount - 1 }]) {
    const error = await t.throwsAsync(read(client.read({ ...ref, ...wrong }, NEVER)), {
      instanceOf: LostPartitionError,
    });
    t.is(error?.code, "DATA_LOSS");
  }
});

test("a reader that stops early ends the stream on both sides", async (t) => {
  const { client, ref, expected, served } = await openExchange(t, 30, { creditBytes: CHUNK_BYTES });
  for await (const chunk of client.read(ref, NEVER)) {
    t.true(chunk.data.byteLength > 0);
    break;
  }
  await served.allEnded.promise;
  t.true((await read(client.read(ref, NEVER))).equals(expected));
});

test("a reader that is cancelled gets the reason, and the stream ends on both sides", async (t) => {
  const { client, ref, served } = await openExchange(t, 30, { creditBytes: CHUNK_BYTES });
  const abort = new AbortController();
  const reader = client.read(ref, abort.signal)[Symbol.asyncIterator]();
  await reader.next();
  abort.abort(new Error("the task was cancelled"));
  await t.throwsAsync(read({ [Symbol.asyncIterator]: () => reader }), { message: "the task was cancelled" });
  await served.allEnded.promise;
  t.is(served.open, 0);
});

test("the producer sends a window and no more before the reader comes back", async (t) => {
  // What was spilled is read in larger chunks, which travel alone.
  const { client, ref, served } = await openExchange(t, 30, { creditBytes: 3 * CHUNK_BYTES, inMemory: true });
  const reader = client.read(ref, NEVER)[Symbol.asyncIterator]();
  await reader.next();
  // The first chunk is not consumed yet; another partition is read to its end meanwhile, on the same connection.
  await t.throwsAsync(read(client.read({ ...ref, index: 7 }, NEVER)), { instanceOf: LostPartitionError });
  t.true(served.sentBytes <= 4 * CHUNK_BYTES, `${served.sentBytes} bytes, ${served.open} streams`);
  await reader.return?.();
});

test("a partition of this worker is read from its store, any other over the exchange", async (t) => {
  const { client, ref, store, expected } = await openExchange(t, 3, { creditBytes: 1_000_000 });
  const local = { ...ref, workerId: "here" as WorkerId, exchangeAddress: "nowhere:1" };
  const reader = new LocalOrRemoteReader("here" as WorkerId, store, client);
  t.true((await read(reader.read(local, NEVER))).equals(expected));
  t.true((await read(reader.read(ref, NEVER))).equals(expected));
  await store.releaseAttempt(ref.jobId, ref.attemptId);
  await t.throwsAsync(read(reader.read(local, NEVER)), { instanceOf: LostPartitionError });
});
