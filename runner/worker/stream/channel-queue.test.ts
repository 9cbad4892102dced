import test from "ava";
import type { Timestamp } from "../../time/timestamp.ts";
import { type Barrier, type ChannelItem, ChannelQueue, itemBytes } from "./channel-queue.ts";

const ID = {
  jobId: "job",
  region: 0,
  executionAttempt: 1,
  datasetId: "data",
  producerSubtask: 0,
  consumerVertexId: "consumer",
  consumerSubtask: 0,
};

function data(byteLength: number): ChannelItem {
  return { kind: "data", chunk: { data: new Uint8Array(byteLength), elementCount: 1 } };
}

function watermark(timestamp: number): ChannelItem {
  return { kind: "watermark", timestamp: timestamp as Timestamp };
}

const BARRIER: ChannelItem = { kind: "barrier", barrier: { checkpointId: 1 } };

test("items come out as they were put in; of watermarks side by side only the last", (t) => {
  const queue = new ChannelQueue(ID, 1_000);
  const [first, second] = [data(1), data(2)];
  for (const item of [first, watermark(1), watermark(2), second, watermark(3), BARRIER, watermark(4)]) queue.push(item);
  const expected = [first, watermark(2), second, watermark(3), BARRIER, watermark(4)];
  t.deepEqual(queue.items(), expected);
  t.deepEqual(
    expected.map(() => queue.shift()),
    expected,
  );
  t.is(queue.shift(), undefined);
});

test("a watermark that was taken is not replaced by the next one", (t) => {
  const queue = new ChannelQueue(ID, 1_000);
  queue.push(watermark(1));
  t.deepEqual(queue.shift(), watermark(1));
  queue.push(watermark(2));
  t.deepEqual(queue.peek(), watermark(2));
  t.is(queue.length, 1);
});

test("bytes rise and fall with the items, to none", (t) => {
  const queue = new ChannelQueue(ID, 300);
  const items = [data(100), watermark(1), watermark(2), data(50)];
  for (const item of items) queue.push(item);
  t.is(queue.bytes, 150 + 3 * itemBytes(BARRIER));
  t.true(queue.isFull);
  while (queue.shift() !== undefined);
  t.is(queue.bytes, 0);
  t.false(queue.isFull);
});

test("put in and taken out are equal whenever the queue is empty, replaced and joined items counted", (t) => {
  const queue = new ChannelQueue(ID, 1_000);
  queue.push(watermark(1));
  queue.push(watermark(2));
  queue.push(data(1), 5);
  t.is(queue.pushedCount, 7);
  t.is(queue.shiftedCount, 0);
  queue.shift();
  t.is(queue.shiftedCount, 2);
  queue.shift();
  t.is(queue.shiftedCount, 7);
  queue.push(watermark(3));
  t.is(queue.pushedCount - queue.shiftedCount, 1);
});

test("each end is told what the other one does", (t) => {
  const queue = new ChannelQueue(ID, 1_000);
  const told: string[] = [];
  queue.onItem = () => told.push("item");
  queue.onRoom = () => told.push("room");
  queue.push(data(1));
  queue.shift();
  queue.shift();
  t.deepEqual(told, ["item", "room"]);
});

test("thousands of items pass a queue that is never empty", (t) => {
  const queue = new ChannelQueue(ID, 1_000);
  queue.push(data(0));
  for (let at = 1; at <= 5_000; at++) {
    queue.push(data(at % 7));
    const item = queue.shift();
    t.true(item?.kind === "data" && item.chunk.data.byteLength === (at - 1) % 7);
  }
  t.is(queue.length, 1);
  t.is(queue.shiftedCount, 5_000);
});

const overtaking = (checkpointId: number): Barrier => ({ checkpointId, overtakesAfterMs: 0 });

test("a barrier that overtakes goes to the front of what is sent to another worker, and gives out what it has passed", (t) => {
  const queue = new ChannelQueue(ID, 1_000);
  const [first, second] = [data(1), data(2)];
  queue.push(first, 3);
  queue.push(watermark(1));
  queue.push(BARRIER);
  queue.push(second);
  t.deepEqual(queue.overtake(overtaking(2)), [first, watermark(1), second]);
  t.deepEqual(queue.announced, overtaking(2));
  const expected = [{ kind: "barrier", barrier: overtaking(2) }, first, watermark(1), BARRIER, second];
  t.deepEqual(queue.items(), expected as ChannelItem[]);
  t.is(queue.pushedCount, 7);
  // Each counts for as many as before.
  const counts: number[] = [];
  while (queue.shift() !== undefined) counts.push(queue.shiftedCount);
  t.deepEqual(counts, [1, 4, 5, 6, 7]);
  t.is(queue.bytes, 0);
});

test("a barrier that waits in its place overtakes what is before it, and nothing behind it", (t) => {
  const queue = new ChannelQueue(ID, 1_000);
  const [first, second] = [data(1), data(2)];
  queue.push(first);
  queue.push({ kind: "barrier", barrier: { checkpointId: 2, overtakesAfterMs: 50 } });
  queue.push(second);
  t.true(queue.holds(2));
  t.deepEqual(queue.overtake(overtaking(2)), [first]);
  t.deepEqual(queue.items(), [{ kind: "barrier", barrier: overtaking(2) }, first, second]);
  t.is(queue.pushedCount, 3);
});

test("where the consumer reads the queue itself a barrier stays in its place, is seen at once, and comes once", (t) => {
  const queue = new ChannelQueue(ID, 1_000);
  queue.hasConsumer = true;
  queue.push(data(1));
  t.deepEqual(queue.overtake(overtaking(2)), []);
  t.deepEqual(queue.overtake(overtaking(2)), []);
  t.deepEqual(queue.items(), [data(1), { kind: "barrier", barrier: overtaking(2) }]);
  t.deepEqual(queue.announced, overtaking(2));
});

test("of barriers that may overtake the newest is announced, in whatever order they come", (t) => {
  const queue = new ChannelQueue(ID, 1_000);
  queue.push(BARRIER);
  t.is(queue.announced, undefined);
  for (const checkpointId of [2, 4, 3]) queue.push({ kind: "barrier", barrier: overtaking(checkpointId) });
  t.is(queue.announced?.checkpointId, 4);
});
