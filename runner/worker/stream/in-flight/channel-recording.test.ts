import test from "ava";
import type { Timestamp } from "../../../time/timestamp.ts";
import { type ChannelItem, ChannelQueue, type InFlightItem } from "../channel-queue.ts";
import { ChannelRecording, type RecordedChannel } from "./channel-recording.ts";

const at = (timestamp: number) => timestamp as Timestamp;
const data = (byteLength: number): InFlightItem => ({
  kind: "data",
  chunk: { data: new Uint8Array(byteLength), elementCount: 1 },
});
const watermark = (timestamp: number): InFlightItem => ({ kind: "watermark", timestamp: at(timestamp) });
const barrier = (checkpointId: number): ChannelItem => ({
  kind: "barrier",
  barrier: { checkpointId, overtakesAfterMs: 0 },
});

function queue(): ChannelQueue {
  return new ChannelQueue(
    {
      jobId: "job",
      region: 0,
      executionAttempt: 1,
      datasetId: "data",
      producerSubtask: 0,
      consumerVertexId: "v",
      consumerSubtask: 0,
    },
    1_000,
  );
}

const itemsOf = (recorded: readonly RecordedChannel[]) => recorded.map(({ items }) => items);

test("it is whole when the barrier has come on the last channel; watermarks side by side are one", async (t) => {
  const [first, second] = [queue(), queue()];
  const recording = new ChannelRecording(
    7,
    [
      { queue: first, watermark: at(1), items: [data(1)], isOpen: false },
      { queue: second, watermark: at(2), items: [data(2), watermark(3)], isOpen: true },
    ],
    100,
  );
  first.push(data(9));
  // Of a checkpoint that was given up.
  second.push(barrier(6));
  second.push(watermark(4));
  second.push(data(3));
  // What is recorded is read by the task all the same.
  second.shift();
  second.push(barrier(7));
  second.push(data(9));
  t.deepEqual(itemsOf(await recording.done), [[data(1)], [data(2), watermark(4), data(3)]]);
  t.is(second.recorder, undefined);
});

test("a newer barrier ends it, too", async (t) => {
  const only = queue();
  const recording = new ChannelRecording(7, [{ queue: only, watermark: at(1), items: [], isOpen: true }], 100);
  only.push(barrier(8));
  t.deepEqual(itemsOf(await recording.done), [[]]);
});

test("given up, or too large, it leaves the channels alone", async (t) => {
  const [first, second] = [queue(), queue()];
  const frozen = (of: ChannelQueue) => [{ queue: of, watermark: at(1), items: [data(500)], isOpen: true }];
  const cancelled = new ChannelRecording(7, frozen(first), 100);
  cancelled.cancel(new Error("enough"));
  await t.throwsAsync(cancelled.done, { message: "enough" });
  const tooLarge = new ChannelRecording(7, frozen(second), 100);
  for (let count = 0; count < 3; count++) second.push(data(50));
  await t.throwsAsync(tooLarge.done, { message: /More than 100 bytes/ });
  for (const { recorder } of [first, second]) t.is(recorder, undefined);
});
