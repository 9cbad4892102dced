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

test("what waits can be put into another queue, which gives it in the same order and holds the same", (t) => {
  const queue = newQueue();
  queue.append([
    { chunk: chunkOf(1), hold: 3 as Timestamp },
    { chunk: chunkOf(2), hold: 4 as Timestamp },
  ]);
  queue.append([{ chunk: chunkOf(3), hold: 9 as Timestamp }]);
  queue.mark({ kind: "watermark", timestamp: 5 as Timestamp });
  queue.mark({ kind: "barrier", barrier: { checkpointId: 1 } });
  queue.data(chunkOf(4));
  // A bundle has taken one that had waited; its hold is the bundle's.
  const taken = queue.take({ maxElements: 1, maxBytes: 100 }, undefined);
  const waiting = queue.waiting(taken.releasedCount);
  t.deepEqual(
    waiting.map((entry) => (entry.kind === "data" ? [...entry.chunk.data, entry.hold, entry.raw] : entry.timestamp)),
    [[2, 3 as Timestamp, true], [3, 9 as Timestamp, true], 5 as Timestamp, [4, MAX_TIMESTAMP, true]],
  );
  const other = newQueue();
  other.restore(waiting);
  t.is(other.releasedHold, 3 as Timestamp);
  t.deepEqual(other.waiting(0), waiting);
  t.is(other.elements, 3);
  const first = other.take(NO_LIMITS, undefined);
  t.deepEqual(bytesOf(first.chunks), [2, 3]);
  other.committed(first.releasedCount);
  t.is(other.releasedHold, MAX_TIMESTAMP);
});

test("a barrier that has overtaken is taken out, a newer one stays", (t) => {
  const queue = newQueue();
  for (const checkpointId of [1, 2, 3]) queue.mark({ kind: "barrier", barrier: { checkpointId } });
  queue.forgetBarrier(2);
  t.deepEqual(queue.front, { kind: "barrier", barrier: { checkpointId: 3 } });
  queue.shift();
  t.true(queue.isEmpty);
  t.false(queue.hasMark);
});
