import test from "ava";
import fc from "fast-check";
import type { Chunk } from "../../../base/chunk.ts";
import { MemoryRows } from "../../../state/state-rows.ts";
import type { Timestamp } from "../../../time/timestamp.ts";
import {
  type InFlight,
  type InFlightOfChannel,
  IN_FLIGHT_TABLES,
  rowsOfInFlight,
  takeInFlight,
} from "./in-flight-rows.ts";

const timestamp = fc.double({ noNaN: true }).map((value) => value as Timestamp);
const chunk = fc.record({ data: fc.uint8Array({ maxLength: 20 }), elementCount: fc.nat(1000) });
const data = fc.record({ kind: fc.constant("data" as const), chunk });
const watermark = fc.record({ kind: fc.constant("watermark" as const), timestamp });
const read = fc.record({ kind: fc.constant("read" as const), timestamp });
const stageData = fc.record({
  kind: fc.constant("data" as const),
  chunk,
  released: fc.boolean(),
  raw: fc.boolean(),
  hold: timestamp,
});
const ofChannel = fc.record({
  datasetId: fc.string({ unit: "grapheme" }),
  otherSubtask: fc.nat(40_000),
  consumerVertexId: fc.string(),
  entry: fc.oneof(data, watermark, read),
});
const inFlight: fc.Arbitrary<InFlight> = fc.record({
  stage: fc.array(fc.oneof(stageData, watermark)),
  side: fc.array(ofChannel),
  input: fc.array(ofChannel),
  output: fc.array(ofChannel),
});

/** With plain arrays for bytes, so that a Buffer equals a Uint8Array. */
function plain({ stage, side, input, output }: InFlight) {
  const bytes = <T extends object>(entry: T) =>
    "chunk" in entry
      ? { ...entry, chunk: { ...(entry.chunk as Chunk), data: [...(entry.chunk as Chunk).data] } }
      : entry;
  const part = (items: readonly InFlightOfChannel[]) =>
    items.map(({ entry, ...of }) => ({ ...of, entry: bytes(entry) }));
  return { stage: stage.map((entry) => bytes(entry)), side: part(side), input: part(input), output: part(output) };
}

test("property: what was in flight is read back as it was, in its order, once", (t) => {
  fc.assert(
    fc.property(inFlight, fc.nat(40_000), (given, subtaskIndex) => {
      const rows = new MemoryRows();
      const all = [...rowsOfInFlight(given, subtaskIndex)];
      // In no order.
      for (const { table, key, value } of all.toReversed()) rows.table(table).put(key, value);
      t.is(new Set(all.map(({ key }) => key)).size, all.length);
      t.deepEqual(plain(takeInFlight(rows)), plain(given));
      t.deepEqual(takeInFlight(rows), { stage: [], side: [], input: [], output: [] });
    }),
  );
});

test("rows of another format are told by their table", (t) => {
  const rows = new MemoryRows();
  rows.table(IN_FLIGHT_TABLES.stage).put("key", Uint8Array.of(9));
  t.throws(() => takeInFlight(rows), { message: /"in-flight-stage" in the snapshot cannot be read/ });
});
