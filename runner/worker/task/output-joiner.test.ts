import test from "ava";
import fc from "fast-check";
import { WeirError } from "../../base/errors.ts";
import type { DatasetId, VertexId } from "../../base/ids.ts";
import { TruncatedElementError } from "../../coders/byte-reader.ts";
import { encodeHeader, WindowedValueLayout } from "../../coders/windowed-value.ts";
import type { CoderSpec, CoderTable, Partitioner } from "../../graph/execution-graph.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import { OutputJoiner, type TakeElements } from "./output-joiner.ts";
import { PartitionRouter } from "./partition-router.ts";

function coder(urn: string, ...components: string[]): CoderSpec {
  return { urn: `beam:coder:${urn}:v1`, payload: new Uint8Array(), components };
}

const CODERS: CoderTable = {
  bytes: coder("bytes"),
  kv: coder("kv", "bytes", "bytes"),
  gw: coder("global_window"),
  keyed: coder("windowed_value", "kv", "gw"),
};
const LAYOUT = new WindowedValueLayout(CODERS, "keyed");
const TRUNCATED = new TruncatedElementError({ code: "DATA_LOSS", domain: "external", message: "" });
const HEADER = encodeHeader(0 as Timestamp, [new Uint8Array()]);

function element(key: number, byteLength: number): Buffer {
  const value = Buffer.alloc(byteLength, key);
  return Buffer.concat([HEADER, Buffer.of(1, key), Buffer.of((byteLength & 0x7f) | 0x80, byteLength >> 7), value]);
}

function router(partitioner: Partitioner, partitions: number): PartitionRouter {
  const dataset = {
    id: "d" as DatasetId,
    pcollectionId: "p",
    producer: "v" as VertexId,
    coderId: "keyed",
    windowingId: "w",
    partitioner,
    sizedRestrictions: false,
    unbounded: false,
  };
  return new PartitionRouter(CODERS, dataset, partitions, 128);
}

/** Routes messages of one stream; gives every element as hex, in the order in which its partition got it. */
function routed(messages: readonly Uint8Array[], partitioner: Partitioner, partitions: number): string[][] {
  const out = Array.from({ length: partitions }, (): string[] => []);
  const routing = router(partitioner, partitions);
  const take: TakeElements = (_sink, data) =>
    routing.route({ data, elementCount: -1 }, (partition, { data: part, elementCount }) => {
      const offsets = LAYOUT.elementOffsets(part);
      if (offsets.length - 1 !== elementCount) throw new Error("elementCount is not true");
      for (let index = 0; index < elementCount; index++)
        out[partition]?.push(Buffer.from(part.subarray(offsets[index], offsets[index + 1])).toString("hex"));
    });
  const joiner = new OutputJoiner(take, String);
  for (const message of messages) {
    void joiner.add("sink", message);
    // The buffer of a message is not ours.
    message.fill(0xee);
  }
  void joiner.end("sink");
  return out;
}

test("property: however a stream is cut into messages, every element comes whole, once and in order", (t) => {
  const elements = fc.array(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 300 })), {
    maxLength: 40,
  });
  const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 60 });
  const shape = fc.constantFrom<[Partitioner, number]>(["forward", 1], ["hash", 3], ["rebalance", 2]);
  fc.assert(
    fc.property(elements, cuts, shape, (made, places, [partitioner, partitions]) => {
      const encoded = made.map(([key, byteLength]) => element(key, byteLength));
      const stream = Buffer.concat(encoded);
      const ends = [...places.map((place) => Math.floor(place * stream.length)), stream.length].sort((a, b) => a - b);
      const messages = ends.map((end, at) => Uint8Array.from(stream.subarray(at === 0 ? 0 : ends[at - 1], end)));
      const filled = messages.filter(({ length }) => length > 0);
      const expected = encoded.map((each) => each.toString("hex"));
      const out = routed(filled, partitioner, partitions);
      t.deepEqual(out.flat().sort(), expected.toSorted());
      if (partitions === 1) t.deepEqual(out, [expected]);
    }),
    { numRuns: 300 },
  );
});

test("an element that is cut off at the end of its stream is an error, and so is one that is malformed", (t) => {
  const whole = element(1, 10);
  t.throws(() => routed([Uint8Array.from(whole.subarray(0, 20))], "forward", 1), { instanceOf: TruncatedElementError });
  const malformed = Uint8Array.from(whole);
  malformed[HEADER.length - 1] = 0xf0;
  const error = t.throws(() => routed([malformed], "forward", 1), { instanceOf: WeirError });
  t.false(error instanceof TruncatedElementError);
});

test("an element of very many messages is looked at a few times only", (t) => {
  let looks = 0;
  const joiner = new OutputJoiner((_stream, data) => {
    looks++;
    if (data.length < 100_000) throw TRUNCATED;
  }, String);
  for (let message = 0; message < 10_000; message++) void joiner.add("s", new Uint8Array(10));
  void joiner.end("s");
  t.true(looks < 20, `${looks}`);
});

test("an element that goes on past the limit is an error that names its stream, and what is held of it is let go", (t) => {
  const taken: number[] = [];
  const take: TakeElements = (_stream, data) => {
    taken.push(data.length);
    throw TRUNCATED;
  };
  const joiner = new OutputJoiner(take, (stream) => `the output "${stream}"`, 1000);
  for (let message = 0; message < 10; message++) void joiner.add("s", new Uint8Array(100));
  const error = t.throws(() => joiner.add("s", new Uint8Array(1)), { instanceOf: WeirError });
  t.is(error.code, "RESOURCE_EXHAUSTED");
  t.regex(error.message, /^An element of the output "s" goes on after 1000 bytes/);
  taken.length = 0;
  t.is(joiner.end("s"), undefined);
  t.deepEqual(taken, []);
});
