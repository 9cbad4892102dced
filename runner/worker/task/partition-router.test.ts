import test from "ava";
import fc from "fast-check";
import type { Chunk } from "../../base/chunk.ts";
import { WeirError } from "../../base/errors.ts";
import type { DatasetId, VertexId } from "../../base/ids.ts";
import { encodeHeader, WindowedValueLayout } from "../../coders/windowed-value.ts";
import type { CoderSpec, CoderTable, DatasetSpec, Partitioner } from "../../graph/execution-graph.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import { PartitionRouter } from "./partition-router.ts";

function coder(urn: string, ...components: string[]): CoderSpec {
  return { urn: `beam:coder:${urn}:v1`, payload: new Uint8Array(), components };
}

const CODERS: CoderTable = {
  bytes: coder("bytes"),
  double: coder("double"),
  kv: coder("kv", "bytes", "bytes"),
  sized: coder("kv", "bytes", "double"),
  gw: coder("global_window"),
  keyed: coder("windowed_value", "kv", "gw"),
  restriction: coder("windowed_value", "sized", "gw"),
  plain: coder("windowed_value", "bytes", "gw"),
};

function dataset(partitioner: Partitioner, coderId = "keyed", sizedRestrictions = false): DatasetSpec {
  return {
    id: "d" as DatasetId,
    pcollectionId: "p",
    producer: "v" as VertexId,
    coderId,
    windowingId: "w",
    partitioner,
    sizedRestrictions,
    unbounded: false,
  };
}

const HEADER = encodeHeader(0 as Timestamp, [new Uint8Array()]);

function element(key: string, value: string): Buffer {
  const [k, v] = [Buffer.from(key), Buffer.from(value)];
  return Buffer.concat([HEADER, Buffer.of(k.length), k, Buffer.of(v.length), v]);
}

function restriction(size: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(size);
  return Buffer.concat([HEADER, Buffer.of(1, 65), bytes]);
}

/** Routes, checks the counts, and gives each partition's elements as hex. */
async function routed(router: PartitionRouter, chunk: Chunk, partitions: number): Promise<string[][]> {
  const layout = new WindowedValueLayout(CODERS, "keyed");
  const out = Array.from({ length: partitions }, (): string[] => []);
  await router.route(chunk, (partition, part) => {
    const offsets = layout.elementOffsets(part.data);
    if (offsets.length - 1 !== part.elementCount) throw new Error("elementCount is not true");
    for (let index = 0; index < part.elementCount; index++)
      out[partition]?.push(Buffer.from(part.data.subarray(offsets[index], offsets[index + 1])).toString("hex"));
  });
  return out;
}

test("one partition takes the very bytes, counted where they were not", async (t) => {
  const data = Buffer.concat([element("a", "1"), element("b", "2")]);
  for (const partitioner of ["hash", "rebalance", "broadcast", "forward"] as const) {
    const router = new PartitionRouter(CODERS, dataset(partitioner), 1, 128);
    for (const elementCount of [-1, 2]) {
      const emitted: Chunk[] = [];
      await router.route({ data, elementCount }, (_partition, chunk) => {
        emitted.push(chunk);
      });
      t.deepEqual(emitted, [{ data, elementCount: 2 }]);
      t.is(emitted[0]?.data, data);
    }
  }
});

test("by hash all of a key's elements go to one partition, in order, whatever the chunks", async (t) => {
  const elements = fc.array(fc.tuple(fc.string({ maxLength: 3 }), fc.string({ maxLength: 3 })), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(
      elements,
      fc.integer({ min: 2, max: 9 }),
      fc.integer({ min: 1, max: 20 }),
      async (pairs, partitions, perChunk) => {
        const router = new PartitionRouter(CODERS, dataset("hash"), partitions, 128);
        const out = Array.from({ length: partitions }, (): string[] => []);
        for (let start = 0; start < pairs.length; start += perChunk) {
          const data = Buffer.concat(pairs.slice(start, start + perChunk).map(([key, value]) => element(key, value)));
          const parts = await routed(router, { data, elementCount: -1 }, partitions);
          parts.forEach((part, index) => out[index]?.push(...part));
        }
        t.is(out.flat().length, pairs.length);
        for (const key of new Set(pairs.map(([each]) => each))) {
          const prefix = element(key, "").subarray(0, -1).toString("hex");
          const expected = pairs
            .filter(([each]) => each === key)
            .map(([, value]) => element(key, value).toString("hex"));
          const homes = out.filter((part) => part.some((each) => each.startsWith(prefix)));
          t.is(homes.length, 1);
          t.deepEqual(
            homes[0]?.filter((each) => each.startsWith(prefix)),
            expected,
          );
        }
      },
    ),
  );
});

test("small chunks are spread element by element, going on where the last one ended; large ones are cut without a copy", async (t) => {
  const router = new PartitionRouter(CODERS, dataset("rebalance"), 3, 128);
  const small = { data: Buffer.concat(["a", "b"].map((key) => element(key, "v"))), elementCount: -1 };
  t.deepEqual(
    (await routed(router, small, 3)).map((part) => part.length),
    [1, 1, 0],
  );
  t.deepEqual(
    (await routed(router, small, 3)).map((part) => part.length),
    [1, 0, 1],
  );

  const many = Array.from({ length: 9000 }, (_, index) => element(`${index}`, "value"));
  const large = { data: Buffer.concat(many), elementCount: 9000 };
  const parts = await routed(router, large, 3);
  t.true(parts.every((part) => Math.abs(part.length - 3000) < 60));
  t.deepEqual(parts.flat().sort(), many.map((each) => each.toString("hex")).sort());
  await router.route(large, (_partition, chunk) => {
    t.is(chunk.data.buffer, large.data.buffer);
  });
});

test("sized restrictions are dealt out one by one and their sizes summed up", async (t) => {
  const sizes = Array.from({ length: 4000 }, (_, index) => index + 0.5);
  const data = Buffer.concat(sizes.map(restriction));
  t.true(data.length > 64 * 1024);
  for (const partitions of [1, 4]) {
    const router = new PartitionRouter(CODERS, dataset("rebalance", "restriction", true), partitions, 128);
    const counts: number[] = [];
    await router.route({ data, elementCount: -1 }, (partition, chunk) => {
      counts[partition] = chunk.elementCount;
    });
    t.deepEqual(
      counts,
      Array.from({ length: partitions }, () => 4000 / partitions),
    );
    t.is(router.restrictionSize, 8_000_000);
  }
});

test("it waits for every partition that asks it to, and fails when one does", async (t) => {
  const router = new PartitionRouter(CODERS, dataset("rebalance"), 2, 128);
  const data = Buffer.concat([element("a", "1"), element("b", "2")]);
  const released: (() => void)[] = [];
  const done = router.route({ data, elementCount: 2 }, () => new Promise<void>((resolve) => released.push(resolve)));
  t.is(released.length, 2);
  for (const release of released) release();
  await done;
  const failing = router.route({ data, elementCount: 2 }, () => Promise.reject(new Error("full")));
  await t.throwsAsync(Promise.resolve(failing), { message: "full" });
  t.is(
    router.route({ data: new Uint8Array(), elementCount: -1 }, () => {
      t.fail();
    }),
    undefined,
  );
});

test("bytes that are no elements and coders that are no KV are refused", (t) => {
  const data = element("a", "1").subarray(1);
  for (const partitioner of ["hash", "rebalance"] as const) {
    const router = new PartitionRouter(CODERS, dataset(partitioner), 2, 128);
    t.throws(() => router.route({ data, elementCount: -1 }, () => undefined), { instanceOf: WeirError });
  }
  t.throws(() => new PartitionRouter(CODERS, dataset("hash", "plain"), 2, 128), { message: /KV/ });
});
