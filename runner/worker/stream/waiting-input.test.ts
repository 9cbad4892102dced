import test from "ava";
import type { Chunk } from "../../base/chunk.ts";
import { compileSkip } from "../../coders/element-boundary.ts";
import { encodeHeader } from "../../coders/windowed-value.ts";
import type { CoderSpec } from "../../graph/execution-graph.ts";
import { MemoryRows } from "../../state/state-rows.ts";
import { MAX_TIMESTAMP, MIN_TIMESTAMP, readTimestamp, type Timestamp } from "../../time/timestamp.ts";
import { SortedInput } from "./sorted-input/sorted-input.ts";
import { StableInput } from "./stable-input.ts";
import { StageQueue } from "./stage-queue.ts";
import { WaitingInput } from "./waiting-input.ts";

const coder = (name: string, ...components: string[]): CoderSpec => ({
  urn: `beam:coder:${name}:v1`,
  payload: new Uint8Array(),
  components,
});
const coders = {
  bytes: coder("bytes"),
  kv: coder("kv", "bytes", "bytes"),
  global: coder("global_window"),
  input: coder("windowed_value", "kv", "global"),
};
const skip = compileSkip(coders, "input");
const NO_LIMITS = { maxElements: 100, maxBytes: 1000 };

function chunkOf(...timestamps: readonly number[]): Chunk {
  const elements = timestamps.map((at) =>
    Buffer.concat([encodeHeader(at as Timestamp, [new Uint8Array()]), Uint8Array.of(1, 1, 1, 1)]),
  );
  return { data: Buffer.concat(elements), elementCount: elements.length };
}

function timestampsOf(chunks: readonly Chunk[]): number[] {
  return chunks.flatMap(({ data }) => {
    const timestamps: number[] = [];
    for (let at = 0; at < data.length; at = skip(data, at)) timestamps.push(readTimestamp(data, at));
    return timestamps;
  });
}

function open(requires: { readonly sorted?: true; readonly stable?: true }, rows = new MemoryRows()) {
  const queue = new StageQueue(skip);
  let dropped = 0;
  const sorted = requires.sorted && sortedOver(rows);
  const stable = requires.stable && new StableInput(rows.table("stable"), "a");
  const waiting = new WaitingInput({ sorted, stable, onDropped: (count) => (dropped += count) }, queue, skip);
  const take = () => {
    const taken = queue.take(NO_LIMITS, undefined);
    queue.committed(taken.releasedCount);
    return timestampsOf(taken.chunks);
  };
  return { queue, waiting, take, rows, dropped: () => dropped };
}

function sortedOver(rows: MemoryRows): SortedInput {
  return new SortedInput({
    table: rows.table("sorted"),
    coders,
    inputCoderId: "input",
    allowedLatenessMs: 0,
    maxParallelism: 128,
    inputWatermark: MIN_TIMESTAMP,
    chunkBytes: 1024,
  });
}

test("stable input runs after a complete checkpoint whose barrier came behind it, and holds until then", (t) => {
  const { waiting, take, queue } = open({ stable: true });
  waiting.data(chunkOf(5));
  waiting.barrier(1);
  waiting.data(chunkOf(6));
  waiting.release();
  t.deepEqual(take(), []);
  t.is(waiting.hold, 5 as Timestamp);
  waiting.complete(1);
  waiting.release();
  t.is(waiting.hold, 6 as Timestamp);
  t.is(queue.releasedHold, 5 as Timestamp);
  t.deepEqual(take(), [5]);
  t.is(queue.releasedHold, MAX_TIMESTAMP);
  t.is(waiting.count, 1);
});

test("a checkpoint that was given up releases nothing, the next one releases what it had", (t) => {
  const { waiting, take } = open({ stable: true });
  waiting.data(chunkOf(5));
  waiting.barrier(1);
  waiting.data(chunkOf(6));
  waiting.barrier(2);
  waiting.data(chunkOf(7));
  waiting.complete(2);
  waiting.release();
  t.deepEqual(take(), [5, 6]);
  waiting.barrier(3);
  waiting.complete(3);
  waiting.release();
  t.deepEqual(take(), [7]);
});

test("a barrier that came before an earlier checkpoint was complete counts what is left", (t) => {
  const { waiting, take } = open({ stable: true });
  waiting.data(chunkOf(5));
  waiting.barrier(1);
  waiting.data(chunkOf(6));
  waiting.barrier(2);
  waiting.complete(1);
  waiting.release();
  t.deepEqual(take(), [5]);
  waiting.data(chunkOf(7));
  waiting.complete(2);
  waiting.release();
  t.deepEqual(take(), [6]);
});

test("restored stable input may run at once", (t) => {
  const before = open({ stable: true });
  before.waiting.data(chunkOf(5));
  const { waiting, take } = open({ stable: true }, before.rows);
  waiting.release();
  t.deepEqual(take(), [5]);
});

test("sorted input comes into the queue before the mark that released it, and holds; what is late is counted", (t) => {
  const { waiting, take, queue, dropped } = open({ sorted: true });
  waiting.data(chunkOf(9, 3, 7));
  t.is(waiting.hold, 3 as Timestamp);
  waiting.watermark(8 as Timestamp);
  queue.mark({ kind: "watermark", timestamp: 8 as Timestamp });
  t.is(queue.releasedHold, 3 as Timestamp);
  t.is(waiting.hold, 9 as Timestamp);
  t.deepEqual(take(), [3, 7]);
  t.is(queue.front?.kind, "watermark");
  waiting.data(chunkOf(4));
  t.is(dropped(), 1);
  t.is(waiting.count, 1);
});

test("what is to be sorted and stable is sorted first", (t) => {
  const { waiting, take } = open({ sorted: true, stable: true });
  waiting.data(chunkOf(9, 3));
  waiting.watermark(10 as Timestamp);
  waiting.release();
  t.deepEqual(take(), []);
  waiting.barrier(1);
  waiting.complete(1);
  waiting.release();
  t.deepEqual(take(), [3, 9]);
});
