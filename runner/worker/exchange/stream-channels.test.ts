import test, { type ExecutionContext } from "ava";
import { ChannelMessage } from "../../../proto/gen/exchange.ts";
import type { Clock } from "../../base/clock.ts";
import type { WeirError } from "../../base/errors.ts";
import { GrpcServer } from "../../base/grpc.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import type { ChannelId, ChannelItem, ChannelQueue } from "../stream/channel-queue.ts";
import { decodeChannelMessage, encodeData, encodeMark } from "./encode-channel-message.ts";
import { StreamChannels } from "./stream-channels.ts";

const ID: ChannelId = {
  jobId: "job",
  region: 0,
  executionAttempt: 3,
  datasetId: "data",
  producerSubtask: 1,
  consumerVertexId: "consumer",
  consumerSubtask: 2,
};
const WINDOW_BYTES = 100_000;

function data(text: string): ChannelItem {
  return { kind: "data", chunk: { data: Buffer.from(text), elementCount: 1 } };
}

function watermark(timestamp: number): ChannelItem {
  return { kind: "watermark", timestamp: timestamp as Timestamp };
}

function barrier(checkpointId: number): ChannelItem {
  return { kind: "barrier", barrier: { checkpointId, overtakesAfterMs: undefined } };
}

function overtaking(checkpointId: number, overtakesAfterMs: number): ChannelItem {
  return { kind: "barrier", barrier: { checkpointId, overtakesAfterMs } };
}

const noLoss = (failure: Error) => {
  throw failure;
};

/** What the items say, joined data taken apart: "a", "b", "|7" for a watermark, "#1" for a barrier. */
function textOf(items: readonly ChannelItem[]): string {
  return items
    .map((item) => {
      if (item.kind === "data") return Buffer.from(item.chunk.data).toString();
      return item.kind === "watermark" ? `|${item.timestamp}` : `#${item.barrier.checkpointId}`;
    })
    .join("");
}

/** Takes items as they come until `count` of the producer's are there. */
async function take(queue: ChannelQueue, count: number): Promise<ChannelItem[]> {
  const taken: ChannelItem[] = [];
  for (;;) {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) taken.push(item);
    if (queue.shiftedCount >= count) return taken;
    await new Promise<void>((resolve) => {
      queue.onItem = resolve;
    });
  }
}

/** Resolves when `count` of the producer's items have arrived; takes none of them. */
async function arrived(queue: ChannelQueue, count: number): Promise<void> {
  while (queue.pushedCount < count)
    await new Promise<void>((resolve) => {
      queue.onItem = resolve;
    });
}

/** Two workers; the first one's exchange is served. */
async function openWorkers(t: ExecutionContext, init: { producerWaitMs?: number; clock?: Clock } = {}) {
  const producing = new StreamChannels({ workerId: "producing", ...init });
  const consuming = new StreamChannels({ workerId: "consuming", ...init });
  const server = await GrpcServer.open([producing.served], "localhost", 0);
  t.teardown(async () => {
    await consuming.close();
    await producing.close();
    await server.close();
  });
  const lost: Error[] = [];
  const anyLoss = Promise.withResolvers<WeirError>();
  const onLost = (failure: Error) => {
    lost.push(failure);
    anyLoss.resolve(failure as WeirError);
  };
  const producer = { workerId: "producing", exchangeAddress: server.address };
  const openInput = (id: ChannelId = ID, capacityBytes = WINDOW_BYTES) =>
    consuming.openInput(id, capacityBytes, producer, onLost);
  return { producing, consuming, server, producer, openInput, lost, firstLoss: anyLoss.promise };
}

test("both ends on one worker are one queue, whichever opens first", (t) => {
  const channels = new StreamChannels({ workerId: "here" });
  const here = { workerId: "here", exchangeAddress: "nowhere:1" };
  const output = channels.openOutput(ID, 10);
  t.is(channels.openInput(ID, 10, here, noLoss), output);
  const other = { ...ID, consumerSubtask: 0 };
  const input = channels.openInput(other, 10, here, noLoss);
  t.is(channels.openOutput(other, 10), input);
  t.not(input, output);
});

test("messages written by hand are the generated ones", (t) => {
  for (const count of [1, 127, 128, 70_000]) {
    const chunks = [new Uint8Array(count).fill(1), new Uint8Array(3).fill(2)].map((bytes) => ({
      data: bytes,
      elementCount: count,
    }));
    const message = ChannelMessage.decode(encodeData(chunks, { itemCount: 2, sequence: count * 1e9 }));
    t.deepEqual(
      message.item?.$case === "data" && Buffer.from(message.item.value),
      Buffer.concat(chunks.map((c) => c.data)),
    );
    t.is(message.elementCount, 2 * count);
    t.is(message.itemCount, 2);
    t.is(message.sequence, BigInt(count * 1e9));
  }
  for (const mark of [watermark(-5), watermark(MAX_TIMESTAMP), barrier(9), overtaking(9, 0), overtaking(9, 70)]) {
    const span = { itemCount: 4, sequence: 12 };
    t.deepEqual(decodeChannelMessage(encodeMark(mark as never, span)), { ...span, item: mark });
  }
});

test("data, watermarks and barriers keep their order between workers, and every item is counted", async (t) => {
  const { producing, openInput } = await openWorkers(t);
  const output = producing.openOutput(ID, WINDOW_BYTES);
  const input = openInput(ID, 1_000);
  const taking = take(input, 3_000);
  let expected = "";
  for (let at = 0; at < 1_000; at++) {
    const items = [data(`a${at}`), at % 3 === 0 ? watermark(at) : data("x"), at % 5 === 0 ? barrier(at) : data("y")];
    for (const item of items) output.push(item);
    expected += textOf(items);
    if (at % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  t.is(textOf(await taking), expected);
  t.is(input.shiftedCount, output.pushedCount);
  t.is(output.length, 0);
});

test("small data that waits is joined into few messages, elements counted", async (t) => {
  const { producing, openInput } = await openWorkers(t);
  const output = producing.openOutput(ID, WINDOW_BYTES);
  for (let at = 0; at < 100; at++) output.push(data("0123456789".repeat(100)));
  const items = await take(openInput(), 100);
  t.is(items.length, 2);
  t.is(
    items.reduce((sum, item) => sum + (item.kind === "data" ? item.chunk.elementCount : 0), 0),
    100,
  );
});

test("no more than the window and one item is under way while the consumer takes nothing", async (t) => {
  const { producing, openInput } = await openWorkers(t);
  const itemBytes = 30_000;
  const output = producing.openOutput(ID, WINDOW_BYTES);
  for (let at = 0; at < 50; at++) output.push(data("z".repeat(itemBytes)));
  const input = openInput();
  // Two of them are joined in a message.
  await arrived(input, 4);
  // A second channel over the same connection goes all the way meanwhile.
  const other = { ...ID, producerSubtask: 9 };
  producing.openOutput(other, 10).push(data("later"));
  t.is(textOf(await take(openInput(other), 1)), "later");
  t.true(output.shiftedCount <= 4);
  t.true(input.bytes <= WINDOW_BYTES + 64 * 1024);
  let most = 0;
  const taken: ChannelItem[] = [];
  while (input.shiftedCount < 50) {
    const item = input.shift();
    if (item === undefined) {
      await arrived(input, input.shiftedCount + 1);
      continue;
    }
    taken.push(item);
    most = Math.max(most, (output.shiftedCount - input.shiftedCount) * itemBytes);
  }
  t.is(textOf(taken).length, 50 * itemBytes);
  t.true(most <= WINDOW_BYTES + 64 * 1024, `${most} bytes were under way`);
});

test("a barrier that overtakes arrives while the consumer takes nothing and the window is used up", async (t) => {
  const { producing, openInput, lost } = await openWorkers(t);
  const output = producing.openOutput(ID, WINDOW_BYTES);
  const input = openInput();
  const big = "x".repeat(60_000);
  for (const item of ["a", "b", "c", "d"]) output.push(data(item + big));
  await arrived(input, 2);
  const overtaken = output.overtake({ checkpointId: 5, overtakesAfterMs: 0 });
  await arrived(input, output.shiftedCount + 1);
  const first = (items: readonly ChannelItem[]) => textOf(items).replaceAll("x", "");
  const sent = first(input.items());
  t.true(sent.endsWith("#5"), sent);
  t.deepEqual(input.announced, { checkpointId: 5, overtakesAfterMs: 0 });
  // Each item is before the barrier at the consumer, or given to the producer's snapshot.
  t.is(sent.replace("#5", "") + first(overtaken), "abcd");
  t.is(first(await take(input, 5)).replace("#5", ""), "abcd");
  t.deepEqual(lost, []);
});

test("items larger than the window pass, one by one", async (t) => {
  const { producing, openInput } = await openWorkers(t);
  const output = producing.openOutput(ID, 10);
  for (let at = 0; at < 5; at++) output.push(data(`${at}`.repeat(200_000)));
  const items = await take(openInput(ID, 1_000), 5);
  t.deepEqual(
    items.map((item) => textOf([item]).slice(0, 1)),
    ["0", "1", "2", "3", "4"],
  );
});

test("a consumer that comes first gets the items of a producer that opens later, even after it asked again", async (t) => {
  for (const producerWaitMs of [5, 60_000]) {
    const waits: PromiseWithResolvers<void>[] = [];
    const asked = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const clock: Clock = {
      nowMs: () => 0,
      monotonicMs: () => 0,
      sleep: (_delayMs, signal) => {
        const wait = Promise.withResolvers<void>();
        signal?.addEventListener("abort", () => wait.reject(signal.reason as Error));
        asked[waits.push(wait) - 1]?.resolve();
        return wait.promise;
      },
    };
    const { producing, openInput, lost } = await openWorkers(t, { producerWaitMs, clock });
    const input = openInput();
    await asked[0]?.promise;
    if (producerWaitMs === 5) {
      waits[0]?.resolve();
      await asked[1]?.promise;
    }
    producing.openOutput(ID, WINDOW_BYTES).push(data("at last"));
    t.is(textOf(await take(input, 1)), "at last");
    t.deepEqual(lost, []);
  }
});

test("a closed attempt is refused to both ends, a newer one is not", async (t) => {
  const { producing, consuming, openInput, firstLoss } = await openWorkers(t);
  producing.closeRegion("job", 0, 4);
  t.throws(() => producing.openOutput(ID, 10), { message: /attempts of job job before 4 are over/ });
  openInput();
  t.is((await firstLoss).code, "ABORTED");
  consuming.closeRegion("job", 0, 4);
  t.throws(() => openInput(), { message: /before 4 are over/ });
  const newer = { ...ID, executionAttempt: 4 };
  producing.openOutput(newer, 10).push(data("new"));
  t.is(textOf(await take(openInput(newer), 1)), "new");
  producing.closeRegion("job", 0);
  t.throws(() => producing.openOutput(newer, 10), { message: /before 5 are over/ });
  t.notThrows(() => producing.openOutput({ ...ID, jobId: "another" }, 10));
});

test("closing the attempt ends a consumer that still waits for its producer", async (t) => {
  const { producing, openInput, lost, firstLoss, consuming } = await openWorkers(t);
  openInput({ ...ID, producerSubtask: 0 });
  producing.openOutput(ID, 10).push(data("open"));
  await take(openInput(), 1);
  producing.closeRegion("job", 0, 4);
  t.is((await firstLoss).code, "ABORTED");
  consuming.closeRegion("job", 0, 4);
  t.true(lost.length <= 2);
});

test("a subscriber of the next attempt that comes before this one is closed waits on", async (t) => {
  const { producing, openInput, lost } = await openWorkers(t);
  producing.openOutput(ID, 10).push(data("old"));
  await take(openInput(), 1);
  const next = { ...ID, executionAttempt: 4 };
  const input = openInput(next);
  // On the same connection, after it.
  producing.openOutput({ ...ID, producerSubtask: 5 }, 10).push(data("more"));
  await take(openInput({ ...ID, producerSubtask: 5 }), 1);
  producing.closeRegion("job", 0);
  producing.openOutput(next, 10).push(data("new"));
  t.is(textOf(await take(input, 1)), "new");
  t.true(lost.length <= 2);
});

test("a producer that ends after its last watermark is no loss", async (t) => {
  const { producing, openInput, lost } = await openWorkers(t);
  const output = producing.openOutput(ID, 10);
  output.push(watermark(MAX_TIMESTAMP));
  await take(openInput(), 1);
  const other = { ...ID, producerSubtask: 0 };
  producing.openOutput(other, 10).push(data("more to come"));
  const input = openInput(other);
  await take(input, 1);
  producing.closeRegion("job", 0);
  // The stream without an end is lost, which comes after the other one's end on the same connection.
  while (lost.length === 0) await new Promise((resolve) => setImmediate(resolve));
  t.is(lost.length, 1);
  t.regex(lost[0]?.message ?? "", /from subtask 0 to consumer subtask 2 is cut off from worker producing/);
});

test("a worker that dies loses its channels, each once, after items were handed out", async (t) => {
  const { producing, openInput, lost, firstLoss, server } = await openWorkers(t);
  producing.openOutput(ID, 10).push(data("first"));
  await take(openInput(), 1);
  await server.close();
  const failure = await firstLoss;
  t.true(failure.retry);
  t.is(lost.length, 1);
});

test("a worker that cannot be reached is tried again, then lost", async (t) => {
  const sleptMs: number[] = [];
  const clock: Clock = {
    nowMs: () => 0,
    monotonicMs: () => 0,
    sleep: (delayMs) => {
      sleptMs.push(delayMs);
      return Promise.resolve();
    },
  };
  const { openInput, firstLoss, server } = await openWorkers(t, { clock });
  await server.close();
  openInput();
  t.is((await firstLoss).code, "UNAVAILABLE");
  t.true(sleptMs.length > 2);
});

test("a second subscriber gets no channel of which items went to the first", async (t) => {
  const { producing, producer, openInput } = await openWorkers(t);
  const output = producing.openOutput(ID, 10);
  output.push(data("once"));
  await take(openInput(), 1);
  const second = new StreamChannels({ workerId: "second" });
  t.teardown(() => second.close());
  const lost = Promise.withResolvers<Error>();
  second.openInput(ID, 10, producer, lost.resolve);
  t.is(((await lost.promise) as WeirError).code, "DATA_LOSS");
});

test("a consumer that closes leaves the producer's queue alone, and hears of no loss", async (t) => {
  const { producing, consuming, openInput, lost } = await openWorkers(t);
  const output = producing.openOutput(ID, 10);
  output.push(data("one"));
  const input = openInput();
  await take(input, 1);
  consuming.closeRegion("job", 0);
  while (output.onItem !== undefined) await new Promise((resolve) => setImmediate(resolve));
  output.push(data("two"));
  await new Promise((resolve) => setImmediate(resolve));
  t.is(output.length, 1);
  t.is(input.length, 0);
  t.deepEqual(lost, []);
});

test.serial("close leaves no handle behind", async (t) => {
  const openSockets = () => process.getActiveResourcesInfo().filter((name) => name.startsWith("TCP")).length;
  const before = openSockets();
  const producing = new StreamChannels({ workerId: "producing" });
  const consuming = new StreamChannels({ workerId: "consuming" });
  const server = await GrpcServer.open([producing.served], "localhost", 0);
  const producer = { workerId: "producing", exchangeAddress: server.address };
  const open = consuming.openInput(ID, 10, producer, () => undefined);
  consuming.openInput({ ...ID, producerSubtask: 7 }, 10, producer, () => undefined);
  producing.openOutput(ID, 10).push(data("x"));
  await take(open, 1);
  await consuming.close();
  await producing.close();
  await server.close();
  t.throws(() => consuming.openInput(ID, 10, producer, noLoss), { message: /worker is ending/ });
  t.throws(() => producing.openOutput(ID, 10), { message: /worker is ending/ });
  for (let turn = 0; turn < 1_000 && openSockets() > before; turn++)
    await new Promise((resolve) => setImmediate(resolve));
  t.true(openSockets() <= before);
});
