import test from "ava";
import type { Chunk } from "../../base/chunk.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { StageQueue } from "./stage-queue.ts";

const NO_LIMITS = { maxElements: 100, maxBytes: 100 };
/** Elements of one byte. */
const chunkOf = (...bytes: readonly number[]): Chunk => ({ data: Uint8Array.from(bytes), elementCount: bytes.length });
const newQueue = () => new StageQueue((_bytes, position) => position + 1);
const bytesOf = (chunks: readonly Chunk[]) => chunks.flatMap(({ data }) => [...data]);

test("what had waited holds until what took it has committed, each batch by itself", (t) => {
  const queue = newQueue();
  queue.append([{ chunk: chunkOf(1), hold: 7 as Timestamp }]);
  queue.append([{ chunk: chunkOf(2), hold: 9 as Timestamp }]);
  t.is(queue.releasedHold, 7 as Timestamp);
  const first = queue.take({ maxElements: 1, maxBytes: 100 }, undefined);
  t.deepEqual(bytesOf(first.chunks), [1]);
  t.is(queue.releasedHold, 7 as Timestamp);
  queue.committed(first.releasedCount);
  t.is(queue.releasedHold, 9 as Timestamp);
  queue.committed(queue.take(NO_LIMITS, undefined).releasedCount);
  t.is(queue.releasedHold, MAX_TIMESTAMP);
});

test("a chunk that was taken in part holds until its rest has committed, and is looked at once", (t) => {
  const queue = newQueue();
  queue.append([{ chunk: chunkOf(1, 2, 3), hold: 7 as Timestamp }]);
  const seen: Chunk[] = [];
  const prepare = (chunk: Chunk) => {
    seen.push(chunk);
    return chunk;
  };
  const first = queue.take({ maxElements: 2, maxBytes: 100 }, prepare);
  t.deepEqual(bytesOf(first.chunks), [1, 2]);
  queue.committed(first.releasedCount);
  t.is(queue.releasedHold, 7 as Timestamp);
  const rest = queue.take(NO_LIMITS, prepare);
  t.deepEqual(bytesOf(rest.chunks), [3]);
  t.is(seen.length, 1);
  queue.committed(rest.releasedCount);
  t.is(queue.releasedHold, MAX_TIMESTAMP);
});

test("input released to the front comes before marks and other input, and is not looked at again", (t) => {
  const queue = newQueue();
  queue.mark({ kind: "watermark", timestamp: 5 as Timestamp });
  queue.data(chunkOf(2));
  queue.release([{ chunk: chunkOf(1), hold: 3 as Timestamp }], false);
  const taken = queue.take(NO_LIMITS, () => t.fail() as never);
  t.deepEqual(bytesOf(taken.chunks), [1]);
  t.is(queue.front?.kind, "watermark");
  queue.committed(taken.releasedCount);
});

test("input of which nothing may run is taken, and holds no more", (t) => {
  const queue = newQueue();
  queue.append([{ chunk: chunkOf(1), hold: 3 as Timestamp }]);
  const taken = queue.take(NO_LIMITS, () => undefined);
  t.deepEqual(taken, { chunks: [], releasedCount: 1 });
  t.true(queue.isEmpty);
  t.is(queue.bytes, 0);
  queue.committed(taken.releasedCount);
  t.is(queue.releasedHold, MAX_TIMESTAMP);
});
