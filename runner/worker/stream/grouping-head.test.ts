import test from "ava";
import { limitsFor } from "../../base/limits.ts";
import type { DatasetId } from "../../base/ids.ts";
import type { Clock } from "../../base/clock.ts";
import { chunksOf, CODERS, type Element, GLOBAL, windowing } from "../../state/grouping/grouping-fixture.ts";
import { MemoryRows } from "../../state/state-rows.ts";
import { MAX_TIMESTAMP, MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { triggerBytes } from "./grouping/grouping-fixture.ts";
import { GroupingHead } from "./grouping-head.ts";
import { JobClock } from "./job-clock.ts";
import type { StreamTaskDeployed, StreamTaskEnvironment } from "./stream-task-environment.ts";

const HEAD = { kind: "group-by-key", windowingId: "w", outputCoderId: "out-global", stateBacked: false } as const;
const CHUNK_BYTES = 2_000;

/** A grouping's head, and what it gives on: numbers of elements, and marks as text. */
function newHead(trigger: Uint8Array, rows = new MemoryRows(), watermark: Timestamp = MIN_TIMESTAMP) {
  const jobClock = new JobClock({} as Clock, 0);
  const given: (number | string)[] = [];
  const woken = { count: 0 };
  const environment = {
    graph: {
      coders: CODERS,
      datasets: { d: { coderId: "in-global" } },
      windowings: { w: windowing("global", { trigger }) },
    },
    rows,
    maxParallelism: 128,
    limits: { ...limitsFor(2 ** 26), chunkBytes: CHUNK_BYTES },
    jobClock,
    windowMerger: () => undefined,
  } as unknown as StreamTaskEnvironment;
  const task = { vertex: { inputs: ["d" as DatasetId] } } as unknown as StreamTaskDeployed;
  const head = new GroupingHead(
    environment,
    task,
    { ...HEAD, mergeWindows: undefined },
    {
      watermark,
      data: ({ elementCount }) => given.push(elementCount),
      mark: (timestamp) => given.push(timestamp >= MAX_TIMESTAMP ? "the end" : "a mark"),
      onDropped: () => undefined,
      wake: () => void woken.count++,
      onFailure: (failure) => {
        throw failure;
      },
      signal: new AbortController().signal,
    },
  );
  const take = () => given.splice(0);
  return { head, take, woken, jobClock, rows };
}

const elements = (count: number, size = 100): Element[] =>
  Array.from({ length: count }, (_, index) => ({
    timestamp: 5,
    windows: GLOBAL,
    key: `k${index}`,
    value: "x".repeat(size),
  }));

test("more panes than fit into a chunk come a chunk at a time, and the mark behind the last of them", (t) => {
  const { head, take } = newHead(new Uint8Array());
  for (const chunk of chunksOf(elements(100))) head.add(chunk);
  t.deepEqual(take(), ["a mark"]);
  head.advance(MAX_TIMESTAMP);
  const given: unknown[] = take();
  t.true(given.length <= 2);
  t.false(head.idle);
  while (head.resume()) {
    const more = take();
    t.true(more.length <= 2);
    given.push(...more);
  }
  t.true(head.idle);
  t.is(given.pop(), "the end");
  t.true(given.length > 4);
  t.is(
    (given as number[]).reduce((sum, count) => sum + count, 0),
    100,
  );
});

test("what a snapshot in between holds comes once more after a restore, the rest not", (t) => {
  const { head, take, rows } = newHead(new Uint8Array());
  for (const chunk of chunksOf(elements(100))) head.add(chunk);
  head.advance(MAX_TIMESTAMP);
  const before = take().filter((item) => typeof item === "number");
  head.flush();
  const restored = newHead(new Uint8Array(), rows, MAX_TIMESTAMP);
  t.false(restored.head.idle);
  while (restored.head.resume());
  const after = restored.take();
  t.is(after.pop(), "the end");
  t.is(
    [...before, ...(after as number[])].reduce((sum, count) => sum + count, 0),
    100,
  );
});

test("what processing time has made due is not given on before it is asked for: a barrier may be inside", (t) => {
  const trigger = triggerBytes({
    $case: "afterProcessingTime",
    value: { timestampTransforms: [{ timestampTransform: { $case: "delay", value: { delayMillis: 5n } } }] },
  });
  const { head, take, woken, jobClock } = newHead(trigger);
  for (const chunk of chunksOf(elements(1))) head.add(chunk);
  t.deepEqual(take(), ["a mark"]);
  t.true(head.idle);
  jobClock.set(5);
  t.deepEqual(take(), []);
  t.is(woken.count, 1);
  t.false(head.idle);
  t.true(head.resume());
  t.deepEqual(take(), [1]);
  t.true(head.idle);
});
