import { open as openFile, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import type { Chunk } from "../base/chunk.ts";
import type { DatasetId, JobId, TaskAttemptId } from "../base/ids.ts";
import type { DatasetWriter } from "../worker/task/ports.ts";
import { PartitionStore, type PartitionStoreInit } from "./partition-store.ts";
import { DiskRoom } from "./disk-room.ts";
import { SpillFile } from "./spill-file.ts";

const KEY = { jobId: "job" as JobId, datasetId: "data" as DatasetId, attemptId: "attempt" as TaskAttemptId };
const NEVER = new AbortController().signal;

interface Context {
  teardown(close: () => Promise<void>): void;
}

async function temporaryDirectory(context: Context): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "weir-store-"));
  context.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function openStore(context: Context, init: Partial<PartitionStoreInit> = {}): Promise<PartitionStore> {
  const directory = init.directory ?? (await temporaryDirectory(context));
  const store = await PartitionStore.open({ partitionMemoryBytes: 1e9, bundleMemoryBytes: 1e9, ...init, directory });
  context.teardown(() => store.close());
  return store;
}

/** `byteLength` bytes that say where they belong. */
function chunkOf(seed: number, byteLength: number, elementCount = 1): Chunk {
  return { data: Uint8Array.from({ length: byteLength }, (_, at) => (seed * 31 + at * 7) & 0xff), elementCount };
}

async function contents(chunks: AsyncIterable<Chunk>): Promise<{ data: Buffer; elementCount: number; chunks: number }> {
  const parts: Uint8Array[] = [];
  let elementCount = 0;
  for await (const chunk of chunks) {
    parts.push(chunk.data);
    elementCount += chunk.elementCount;
  }
  return { data: Buffer.concat(parts), elementCount, chunks: parts.length };
}

test("a segment is invisible until it commits, and an aborted one for ever", async (t) => {
  const store = await openStore(t);
  const writer: DatasetWriter = store.openDataset({ ...KEY, partitions: 2 });
  const kept = writer.beginSegment();
  const dropped = writer.beginSegment();
  await kept.append(0, chunkOf(1, 10, 3));
  await dropped.append(0, chunkOf(2, 10));
  await kept.append(1, chunkOf(3, 20_000, 2));
  dropped.abort();
  dropped.abort();
  await dropped.append(0, chunkOf(4, 10));
  t.false(store.has(KEY));
  await t.throwsAsync(contents(store.read({ ...KEY, index: 0 }, NEVER)), { message: /not on this worker/ });
  kept.commit();
  t.deepEqual(writer.seal(), [
    { index: 0, byteLength: 10, elementCount: 3 },
    { index: 1, byteLength: 20_000, elementCount: 2 },
  ]);
  t.true(store.has(KEY));
  const read = await contents(store.read({ ...KEY, index: 0 }, NEVER));
  t.deepEqual(read.data, Buffer.from(chunkOf(1, 10).data));
  t.is(read.elementCount, 3);
});

test("large chunks are handed on without a copy, small ones are joined", async (t) => {
  const store = await openStore(t);
  const writer = store.openDataset({ ...KEY, partitions: 2 });
  const segment = writer.beginSegment();
  const large = chunkOf(1, 300_000);
  await segment.append(0, large);
  for (let at = 0; at < 1_000; at++) await segment.append(1, chunkOf(at, 10));
  segment.commit();
  writer.seal();
  for await (const chunk of store.read({ ...KEY, index: 0 }, NEVER)) t.is(chunk.data.buffer, large.data.buffer);
  const small = await contents(store.read({ ...KEY, index: 1 }, NEVER));
  t.is(small.data.byteLength, 10_000);
  t.is(small.elementCount, 1_000);
  t.is(small.chunks, 1);
});

test("past the budgets, tentative and committed data lie on disk and are read back in order by several readers", async (t) => {
  const store = await openStore(t, { partitionMemoryBytes: 100_000, bundleMemoryBytes: 50_000 });
  const writer = store.openDataset({ ...KEY, partitions: 3 });
  const expected: Uint8Array[][] = [[], [], []];
  let waited = 0;
  for (let bundle = 0; bundle < 4; bundle++) {
    const segment = writer.beginSegment();
    for (let at = 0; at < 40; at++) {
      const chunk = chunkOf(bundle * 100 + at, 100 + at * 700);
      expected[at % 3]?.push(chunk.data);
      const wait = segment.append(at % 3, chunk);
      if (wait !== undefined) waited++;
      await wait;
      t.true(store.memoryBytes < 100_000 + 50_000 + 30_000);
    }
    segment.commit();
  }
  t.true(waited > 10);
  const sealed = writer.seal();
  for (const [index, parts] of expected.entries()) {
    const whole = Buffer.concat(parts);
    t.is(sealed[index]?.byteLength, whole.byteLength);
    const reads = await Promise.all([1, 2].map(() => contents(store.read({ ...KEY, index }, NEVER))));
    for (const read of reads) {
      t.true(read.data.equals(whole));
      t.is(read.elementCount, sealed[index]?.elementCount ?? -1);
      t.true(read.chunks < parts.length);
    }
  }
  await writer.discard();
  t.is(store.memoryBytes, 0);
});

test("a reader whose attempt is released gets an error and not an early end", async (t) => {
  for (const partitionMemoryBytes of [1e9, 1]) {
    const store = await openStore(t, { partitionMemoryBytes });
    const writer = store.openDataset({ ...KEY, partitions: 1 });
    const segment = writer.beginSegment();
    for (let at = 0; at < 8; at++) await segment.append(0, chunkOf(at, 600_000));
    segment.commit();
    writer.seal();
    const reader = store.read({ ...KEY, index: 0 }, NEVER);
    t.false((await reader.next()).done);
    await store.releaseAttempt(KEY.jobId, KEY.attemptId);
    await t.throwsAsync(contents(reader), { message: /released by its job/ });
    t.is(store.memoryBytes, 0);
    t.throws(() => writer.beginSegment(), { message: /released/ });
  }
});

test("releasing a job drops its running segments and leaves other jobs alone", async (t) => {
  const store = await openStore(t, { bundleMemoryBytes: 10_000 });
  const other = { ...KEY, jobId: "other" as JobId };
  const writers = [KEY, other].map((key) => store.openDataset({ ...key, partitions: 1 }));
  const segments = writers.map((writer) => writer.beginSegment());
  const waits = segments.map((segment) => segment.append(0, chunkOf(1, 60_000)));
  await store.releaseJob(KEY.jobId);
  await Promise.all(waits.filter((wait) => wait !== undefined));
  segments[0]?.abort();
  segments[1]?.commit();
  writers[1]?.seal();
  t.false(store.has(KEY));
  t.is((await contents(store.read({ ...other, index: 0 }, NEVER))).data.byteLength, 60_000);
});

test("no spill file has a name, so that a killed worker leaves none", async (t) => {
  const directory = await temporaryDirectory(t);
  const store = await openStore(t, { directory, bundleMemoryBytes: 1 });
  const segment = store.openDataset({ ...KEY, partitions: 1 }).beginSegment();
  await segment.append(0, chunkOf(1, 50_000));
  t.true(store.memoryBytes < 1_000);
  t.deepEqual(await readdir(directory), []);
});

test("a full disk fails the append that waits for it, names the directory, and the data of others is unharmed", async (t) => {
  const store = await openStore(t, {
    bundleMemoryBytes: 20_000,
    openSpillFile: (label) => SpillFile.open(tmpdir(), label, () => openFile("/dev/full", "r+"), new DiskRoom(0)),
  });
  const writer = store.openDataset({ ...KEY, partitions: 1 });
  const segment = writer.beginSegment();
  await segment.append(0, chunkOf(1, 5_000));
  await t.throwsAsync(async () => segment.append(0, chunkOf(2, 30_000)), {
    message: new RegExp(`spill directory ${tmpdir()}: the disk.* is full \\(ENOSPC\\)`),
    code: "RESOURCE_EXHAUSTED",
  });
  segment.abort();
  t.is(store.memoryBytes, 0);
  const next = writer.beginSegment();
  await next.append(0, chunkOf(3, 5_000));
  next.commit();
  t.is(writer.seal()[0]?.byteLength, 5_000);
});

test("a spill directory that cannot be made is named", async (t) => {
  const file = join(await temporaryDirectory(t), "file");
  await writeFile(file, "");
  await t.throwsAsync(SpillFile.open(join(file, "spill"), "shuffle"), {
    message: /Cannot create a spill file in the spill directory .*file\/spill: ENOTDIR/,
    code: "FAILED_PRECONDITION",
  });
});

/** What a run of the store does; partition and segment are taken modulo what there is. */
const action = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("append" as const),
      segment: fc.nat(2),
      partition: fc.nat(2),
      size: fc.oneof(fc.nat(50), fc.nat(40_000)),
      awaited: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom("commit" as const, "abort" as const), segment: fc.nat(2) }),
  },
);

test("whatever the order of appends, commits, aborts and spills, a partition is the concatenation of its commits", async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(action, { maxLength: 60 }),
      fc.constantFrom(1, 30_000, 1e9),
      fc.constantFrom(1, 30_000, 1e9),
      async (actions, partitionMemoryBytes, bundleMemoryBytes) => {
        const store = await PartitionStore.open({ directory: tmpdir(), partitionMemoryBytes, bundleMemoryBytes });
        try {
          const writer = store.openDataset({ ...KEY, partitions: 3 });
          const committed: Uint8Array[][] = [[], [], []];
          const open = Array.from({ length: 3 }, () => ({
            segment: writer.beginSegment(),
            appended: [] as [number, Uint8Array][],
          }));
          const waits: (Promise<void> | undefined)[] = [];
          let seed = 0;
          for (const step of actions) {
            const slot = open[step.segment];
            if (slot === undefined) continue;
            if (step.kind === "append") {
              const chunk = chunkOf(seed++, step.size, 2);
              slot.appended.push([step.partition, chunk.data]);
              const wait = slot.segment.append(step.partition, chunk);
              waits.push(wait);
              if (step.awaited) await wait;
              continue;
            }
            slot.segment[step.kind]();
            if (step.kind === "commit") for (const [partition, data] of slot.appended) committed[partition]?.push(data);
            open[step.segment] = { segment: writer.beginSegment(), appended: [] };
          }
          for (const { segment } of open) segment.abort();
          const sealed = writer.seal();
          for (const [index, parts] of committed.entries()) {
            const expected = Buffer.concat(parts);
            const read = await contents(store.read({ ...KEY, index }, NEVER));
            if (!read.data.equals(expected)) throw new Error(`partition ${index} differs`);
            if (read.elementCount !== parts.length * 2)
              throw new Error(`partition ${index} has ${read.elementCount} elements`);
            if (sealed[index]?.byteLength !== expected.byteLength) throw new Error("the seal is wrong");
          }
          await Promise.all(waits.filter((wait) => wait !== undefined));
          await store.close();
          if (store.memoryBytes !== 0) throw new Error(`${store.memoryBytes} bytes are still counted`);
        } finally {
          await store.close();
        }
      },
    ),
    { numRuns: 60 },
  );
  t.pass();
});
