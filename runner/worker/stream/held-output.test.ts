import test, { type ExecutionContext } from "ava";
import { mkdtemp, rm, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DatasetId, VertexId } from "../../base/ids.ts";
import { encodeHeader } from "../../coders/windowed-value.ts";
import type { CoderSpec, CoderTable, DatasetSpec } from "../../graph/execution-graph.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import { PartitionRouter } from "../task/partition-router.ts";
import { ChannelQueue } from "./channel-queue.ts";
import { HeldOutput, type OutputEdge } from "./held-output.ts";
import { rowsOfInFlight } from "./in-flight/in-flight-rows.ts";
import { inFlightBytes } from "./in-flight/task-in-flight.ts";
import { SpilledOutput } from "./spilled-output.ts";

function coder(urn: string, ...components: string[]): CoderSpec {
  return { urn: `beam:coder:${urn}:v1`, payload: new Uint8Array(), components };
}

const CODERS: CoderTable = {
  bytes: coder("bytes"),
  gw: coder("global_window"),
  plain: coder("windowed_value", "bytes", "gw"),
};
const DATASET: DatasetSpec = {
  id: "d" as DatasetId,
  pcollectionId: "p",
  producer: "v" as VertexId,
  coderId: "plain",
  windowingId: "w",
  partitioner: "forward",
  sizedRestrictions: false,
  unbounded: false,
};
const HEADER = encodeHeader(0 as Timestamp, [new Uint8Array()]);
const CAPACITY_BYTES = 200;

function element(text: string): Buffer {
  return Buffer.concat([HEADER, Buffer.of(text.length), Buffer.from(text)]);
}

function newQueue(consumerSubtask: number): ChannelQueue {
  const id = { jobId: "j", region: 0, executionAttempt: 1, datasetId: "d", producerSubtask: 0, consumerVertexId: "v" };
  return new ChannelQueue({ ...id, consumerSubtask }, CAPACITY_BYTES);
}

/** A bundle whose output goes to one queue of an edge, and to both of another. */
async function newBundle(t: ExecutionContext, memoryBytes: number) {
  const directory = await mkdtemp(join(tmpdir(), "weir-held-"));
  t.teardown(() => rm(directory, { recursive: true }));
  const queues = [newQueue(0), newQueue(1), newQueue(2)] as const;
  const edge = (to: readonly ChannelQueue[]): OutputEdge => ({
    datasetId: "d",
    router: new PartitionRouter(CODERS, DATASET, 1, 128),
    queues: to,
    broadcast: to.length > 1,
  });
  const files: string[] = [];
  const bundle = new HeldOutput({
    bySink: new Map([["sink", [edge([queues[0]]), edge([queues[1], queues[2]])]]]),
    head: [],
    memoryBytes,
    spill: () => {
      files.push("opened");
      return new SpilledOutput(directory, () => files.push("closed"));
    },
  });
  return { bundle, queues, files, directory };
}

function taken(queue: ChannelQueue): string[] {
  const texts: string[] = [];
  for (let item = queue.shift(); item !== undefined; item = queue.shift())
    if (item.kind === "data") texts.push(Buffer.from(item.chunk.data.subarray(HEADER.length + 1)).toString());
  return texts;
}

const TEXTS = Array.from({ length: 20 }, (_, index) => `element ${index} ${"x".repeat(index)}`);

test("what a bundle may not hold in memory comes from disk, in its order, and the file is closed then", async (t) => {
  const { bundle, queues, files, directory } = await newBundle(t, 100);
  for (const text of TEXTS) await bundle.accept("sink", element(text));
  t.true(queues.every((queue) => queue.length === 0));
  t.deepEqual(files, ["opened"]);
  bundle.commit();
  t.true(queues.every((queue) => queue.isFull));
  t.deepEqual(await readdir(directory), []);
  t.deepEqual(taken(queues[0]), TEXTS);
  t.deepEqual(taken(queues[1]), TEXTS);
  // The queues of an edge that broadcasts share what was read.
  t.deepEqual(files, ["opened", "closed"]);
  t.deepEqual(taken(queues[2]), TEXTS);
});

test("a bundle within its memory opens no file", async (t) => {
  const { bundle, queues, files } = await newBundle(t, 10_000);
  for (const text of TEXTS) t.is(bundle.accept("sink", element(text)), undefined);
  bundle.commit();
  t.deepEqual(taken(queues[0]), TEXTS);
  t.deepEqual(files, []);
});

test("nothing of a bundle that is aborted is left", async (t) => {
  const { bundle, queues, files } = await newBundle(t, 100);
  for (const text of TEXTS) await bundle.accept("sink", element(text));
  bundle.abort();
  bundle.commit();
  t.true(queues.every((queue) => queue.length === 0));
  t.deepEqual(files, ["opened", "closed"]);
});

test("a snapshot reads what lies on disk without taking it out", async (t) => {
  const { bundle, queues, files } = await newBundle(t, 100);
  for (const text of TEXTS) await bundle.accept("sink", element(text));
  bundle.commit();
  const of = { datasetId: "d", otherSubtask: 0, consumerVertexId: "v" };
  const output = queues[0].items().flatMap((entry) => (entry.kind === "data" ? [{ ...of, entry }] : []));
  const inFlight = { stage: [], side: [], input: [], output };
  t.is(
    inFlightBytes(inFlight),
    TEXTS.reduce((sum, text) => sum + element(text).length, 0),
  );
  t.is([...rowsOfInFlight(inFlight, 0)].length, TEXTS.length);
  t.deepEqual(files, ["opened"]);
  for (const queue of queues) t.deepEqual(taken(queue), TEXTS);
  t.deepEqual(files, ["opened", "closed"]);
  // Also what was taken out meanwhile is still there to be written.
  t.is([...rowsOfInFlight(inFlight, 0)].length, TEXTS.length);
});
