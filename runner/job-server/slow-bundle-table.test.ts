import test from "ava";
import type { SlowBundle } from "../../proto/gen/worker.ts";
import type { WorkerId } from "../base/ids.ts";
import type { JobRun } from "./job-executor.ts";
import { SlowBundleTable } from "./slow-bundle-table.ts";
import type { RegisteredWorker } from "./worker-registry.ts";

const worker = (workerId: string) => ({ workerId: workerId as WorkerId }) as RegisteredWorker;

function open() {
  const messages: string[] = [];
  const run = { jobId: "job", graph: { vertices: [{ id: "v", name: "[Map(hang)]" }] } } as unknown as JobRun;
  const table = new SlowBundleTable(run, { message: (how, text) => void messages.push(`${how} ${text}`) }, 60_000);
  const tell = (change: Partial<SlowBundle>, by = "w") => {
    const bundle = { jobId: "job", vertexId: "v", bundleId: "b", harnessId: "h", stacks: "the stack", ended: false };
    table.workerMessage(worker(by), {
      $case: "slowBundle",
      value: { ...bundle, ageMs: 0n, quietMs: 0n, ...change },
    });
  };
  return { table, messages, tell };
}

test("a bundle that has stood still for long enough is told of once, and again after twice the time", (t) => {
  const { table, messages, tell } = open();
  for (let seconds = 10; seconds <= 250; seconds += 10)
    tell({ ageMs: BigInt(seconds * 1000), quietMs: BigInt(seconds * 1000) });
  t.deepEqual(messages, [
    "WARNING A bundle of [Map(hang)] has made no progress for 60 s (bundle b on SDK harness h).\nthe stack",
    "WARNING A bundle of [Map(hang)] has made no progress for 120 s (bundle b on SDK harness h).\nthe stack",
    "WARNING A bundle of [Map(hang)] has made no progress for 240 s (bundle b on SDK harness h).\nthe stack",
  ]);
  t.is(table.bundles.length, 1);
  tell({ ended: true });
  t.deepEqual(table.bundles, []);
});

test("one that goes on for very long is told of, too, but is no warning", (t) => {
  const { messages, tell } = open();
  for (let seconds = 30; seconds <= 110; seconds += 10) tell({ ageMs: BigInt(seconds * 1000), quietMs: 2_000n });
  t.deepEqual(messages, [
    "BASIC A bundle of [Map(hang)] has run for 60 s and made progress 2 s ago (bundle b on SDK harness h).\nthe stack",
  ]);
});

test("those of other jobs and of lost workers do not count; their number is bounded", (t) => {
  const { table, tell } = open();
  tell({ jobId: "another" });
  t.is(table.bundles.length, 0);
  for (let number = 0; number < 100; number++) tell({ bundleId: `b${number}` }, number === 0 ? "lost" : "w");
  t.is(table.bundles.length, 64);
  table.workerLost(worker("lost"));
  t.is(table.bundles.length, 63);
});
