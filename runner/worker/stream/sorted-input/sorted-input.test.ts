import test from "ava";
import fc from "fast-check";
import type { Chunk } from "../../../base/chunk.ts";
import { encodeHeader } from "../../../coders/windowed-value.ts";
import type { CoderSpec } from "../../../graph/execution-graph.ts";
import { MemoryRows, type StateTable } from "../../../state/state-rows.ts";
import { MAX_TIMESTAMP, MIN_TIMESTAMP, readTimestamp, type Timestamp } from "../../../time/timestamp.ts";
import { SortedInput } from "./sorted-input.ts";

const coder = (name: string, ...components: string[]): CoderSpec => ({
  urn: `beam:coder:${name}:v1`,
  payload: new Uint8Array(),
  components,
});

function open(table: StateTable, allowedLatenessMs = 0, inputWatermark: Timestamp = MIN_TIMESTAMP): SortedInput {
  return new SortedInput({
    table,
    coders: {
      bytes: coder("bytes"),
      kv: coder("kv", "bytes", "bytes"),
      global: coder("global_window"),
      input: coder("windowed_value", "kv", "global"),
    },
    inputCoderId: "input",
    allowedLatenessMs,
    maxParallelism: 128,
    inputWatermark,
    chunkBytes: 64,
  });
}

const newTable = () => new MemoryRows().table("sorted-input");

/** Elements [timestamp, value]; the value is also the key. */
function chunkOf(...elements: readonly (readonly [timestamp: number, value: number])[]): Chunk {
  const encoded = elements.map(([timestamp, value]) =>
    Buffer.from([...encodeHeader(timestamp as Timestamp, [new Uint8Array()]), 1, value, 1, value]),
  );
  return { data: Buffer.concat(encoded), elementCount: elements.length };
}

const ELEMENT_BYTES = chunkOf([0, 0]).data.length;

function read(chunks: readonly Chunk[]): [timestamp: number, value: number][] {
  return chunks.flatMap(({ data, elementCount }) =>
    Array.from({ length: elementCount }, (_, index): [number, number] => {
      const start = index * ELEMENT_BYTES;
      return [readTimestamp(data, start), data[start + ELEMENT_BYTES - 1] as number];
    }),
  );
}

test("elements come out when the watermark has passed them, sorted; late ones are dropped", (t) => {
  const input = open(newTable());
  input.add(chunkOf([5, 1], [3, 2], [9, 3], [3, 4]));
  t.is(input.hold, 3 as Timestamp);
  t.deepEqual(read(input.release(2 as Timestamp)), []);
  t.deepEqual(read(input.release(5 as Timestamp)), [
    [3, 2],
    [3, 4],
    [5, 1],
  ]);
  t.is(input.hold, 9 as Timestamp);
  input.add(chunkOf([4, 5], [5, 6]));
  t.is(input.droppedLateCount, 1);
  t.deepEqual(read(input.release(MAX_TIMESTAMP)), [
    [5, 6],
    [9, 3],
  ]);
  t.is(input.count, 0);
  t.is(input.hold, MAX_TIMESTAMP);
});

test("allowed lateness is waited for, but not at the end of time", (t) => {
  const input = open(newTable(), 10);
  input.add(chunkOf([5, 1]));
  t.deepEqual(read(input.release(14 as Timestamp)), []);
  input.add(chunkOf([4, 2], [3, 3]));
  t.is(input.droppedLateCount, 1);
  t.deepEqual(read(input.release(15 as Timestamp)), [
    [4, 2],
    [5, 1],
  ]);
  input.add(chunkOf([MAX_TIMESTAMP, 4]));
  t.deepEqual(read(input.release(MAX_TIMESTAMP)), [[MAX_TIMESTAMP, 4]]);
});

test("however input and watermark come, and with restores between, all that is not late comes out in order", (t) => {
  const steps = fc.array(
    fc.record({
      timestamps: fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 12 }),
      watermark: fc.integer({ min: 0, max: 100 }),
      restore: fc.boolean(),
    }),
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(steps, fc.integer({ min: 0, max: 30 }), (all, latenessMs) => {
      const table = newTable();
      let input = open(table, latenessMs);
      let watermark: number = MIN_TIMESTAMP;
      let value = 0;
      const accepted: [number, number][] = [];
      const released: [number, number][] = [];
      for (const step of all) {
        const elements = step.timestamps.map((timestamp): [number, number] => [timestamp, value++ % 256]);
        accepted.push(...elements.filter(([timestamp]) => timestamp + latenessMs >= watermark));
        input.add(chunkOf(...elements));
        watermark = Math.max(watermark, step.watermark);
        released.push(...read(input.release(watermark as Timestamp)));
        if (step.restore) input = open(table, latenessMs, watermark as Timestamp);
        t.is(input.count, accepted.length - released.length);
        t.is([...table.entries()].length, input.count);
      }
      released.push(...read(input.release(MAX_TIMESTAMP)));
      t.deepEqual(
        released,
        accepted.toSorted(([a], [b]) => a - b),
      );
    }),
    { numRuns: 200 },
  );
});
