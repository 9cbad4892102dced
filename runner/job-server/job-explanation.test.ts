import test from "ava";
import type { WorkerId } from "../base/ids.ts";
import type { CheckpointCounts } from "./job-executor.ts";
import { explainJob, explanationLines } from "./job-explanation.ts";
import type { TaskProgress, TaskStatus } from "./stream-task-table.ts";
import type { TaskHold } from "./watermark-text.ts";

const MAX = Number(9_223_372_036_854_775n);

function task(vertexId: string, subtaskIndex: number, status: Partial<TaskStatus> | undefined): TaskProgress {
  const told = {
    inputWatermark: 20,
    outputWatermark: 20,
    holdKind: "",
    holdTransform: "",
    queuedBytes: 0,
    bundleAgeMs: 0,
    holds: [],
    fullToVertices: [],
    ...status,
  };
  return {
    vertexId,
    vertexName: `[${vertexId}]`,
    subtaskIndex,
    parallelism: 2,
    workerId: "w" as WorkerId,
    state: "running",
    status: status === undefined ? undefined : told,
  };
}

function hold(kind: string, timestamp: number, more: Partial<TaskHold> = {}): TaskHold {
  return { kind, transform: "T", detail: "", timestamp, count: 1, keyGroupFirst: -1, keyGroupLast: -1, ...more };
}

test("a stage's watermarks are the least of its subtasks', and what holds them is named with its subtask", (t) => {
  const timers = hold("event-time timer", 5, { detail: "flush", count: 2, keyGroupFirst: 3, keyGroupLast: 7 });
  const ahead = hold("residual", 30);
  const progress = {
    tasks: [
      task("a", 0, { queuedBytes: 7, fullToVertices: ["b"], holds: [hold("bundle", 20)], bundleAgeMs: 1_500 }),
      task("a", 1, { inputWatermark: 10, outputWatermark: 10, queuedBytes: 1 }),
      task("b", 0, { inputWatermark: 20, outputWatermark: 5, holds: [timers, ahead] }),
      task("b", 1, {
        outputWatermark: -MAX,
        inputWatermark: MAX,
        holds: [hold("side input", -MAX, { detail: "s of T" })],
      }),
    ],
    checkpoints: undefined,
  };
  const explanation = explainJob("job", "RUNNING", progress);
  const lines = explanationLines(explanation);
  t.deepEqual(lines, [
    "job RUNNING, streaming",
    "",
    "[a]",
    "  2 subtasks: 2 running, 0 finished",
    "  watermark in 1970-01-01T00:00:00.010Z, out 1970-01-01T00:00:00.010Z",
    "  8 bytes queued; a bundle for 1.5 s running",
    "  held by the bundle that runs, for 1.5 s, in T at 1970-01-01T00:00:00.020Z (subtask 0)",
    "  waits for room in the channels to [b]",
    "",
    "[b]",
    "  2 subtasks: 2 running, 0 finished",
    "  watermark in 1970-01-01T00:00:00.020Z, out -∞",
    "  0 bytes queued; no bundle running",
    '  held by 2 event-time timers of T, family "flush" at 1970-01-01T00:00:00.005Z, key groups 3 to 7 (subtask 0)',
    "  held by main input of T that waits for side input s of T at -∞ (subtask 1)",
    "",
    "Held back first at [b].",
  ]);
});

test("a job that has ended has no stages, a stage that has told nothing has no watermark", (t) => {
  t.deepEqual(explanationLines(explainJob("job", "DONE", undefined)), ["job DONE: no stage of it runs."]);
  const progress = { tasks: [task("a", 0, {}), task("a", 1, undefined)], checkpoints: undefined };
  t.is(explainJob("job", "RUNNING", progress).stages[0]?.outputWatermark, null);
});

test("a job that runs stage by stage tells how many subtasks are done", (t) => {
  const stage = { vertexId: "a", vertexName: "[a]", subtasks: 3, running: 1, finished: 2, oldestTaskAgeMs: 61_000 };
  const next = { ...stage, vertexName: "[b]", subtasks: undefined, running: 0, finished: 0, oldestTaskAgeMs: 0 };
  const progress = { tasks: [], stages: [stage, next], checkpoints: undefined };
  t.deepEqual(explanationLines(explainJob("job", "RUNNING", progress)), [
    "job RUNNING, stage by stage",
    "",
    "[a]",
    "  3 subtasks: 1 running, the oldest for 61 s, 2 finished",
    "",
    "[b]",
    "  waits for its input: 0 running, 0 finished",
  ]);
});

test("slow bundles are shown with their stacks at their stage, in either engine, and no more than a few", (t) => {
  const bundle = (vertexId: string, bundleId: string) => ({
    vertexId,
    bundleId,
    harnessId: "h",
    ageMs: 12_340,
    quietMs: 11_000,
    stacks: "line 1\nline 2",
  });
  const shown = (bundleId: string) => [
    `  bundle ${bundleId} on SDK harness h runs for 12.3 s, without progress for 11 s`,
    "    line 1",
    "    line 2",
  ];
  const slowBundles = [bundle("a", "1"), ...["2", "3", "4", "5", "6"].map((id) => bundle("b", id))];
  const streaming = { tasks: [task("a", 0, {}), task("b", 0, {})], checkpoints: undefined, slowBundles };
  const lines = explanationLines(explainJob("job", "RUNNING", streaming)).filter(
    (line) => !/watermark|queued/.test(line),
  );
  const tasks = "  2 subtasks: 1 running, 0 finished";
  const b = ["2", "3", "4", "5"].flatMap(shown);
  const expected = ["", "[a]", tasks, ...shown("1"), "", "[b]", tasks, ...b, "  1 more slow bundles"];
  t.deepEqual(lines.slice(1), expected);
  const stages = [{ vertexId: "a", vertexName: "[a]", subtasks: 1, running: 1, finished: 0, oldestTaskAgeMs: 12_000 }];
  const blocking = explainJob("job", "RUNNING", { tasks: [], stages, checkpoints: undefined, slowBundles });
  t.deepEqual(explanationLines(blocking).slice(3), [
    "  1 subtask: 1 running, the oldest for 12 s, 0 finished",
    ...shown("1"),
  ]);
});

test("how checkpoints go is told where the job takes any, with what the last one waited for and overtook", (t) => {
  const linesOf = (checkpoints: CheckpointCounts | undefined) =>
    explanationLines(explainJob("job", "RUNNING", { tasks: [], checkpoints })).slice(1);
  t.deepEqual(linesOf(undefined), []);
  const none = { completed: 0, aborted: 2, lastDurationMs: undefined, lastRecord: undefined };
  t.deepEqual(linesOf(none), ["  checkpoints: 0 complete, 2 given up"]);
  const lastRecord = {
    ...{ alignmentMs: 1, commitWaitMs: 20, waitedFor: "a running bundle (subtask 0 of [a])", writeMs: 3 },
    ...{ writtenBytes: 4, stateBytes: 5, inFlightBytes: 6, unaligned: true, warnings: [] },
  };
  t.deepEqual(linesOf({ completed: 3, aborted: 0, lastDurationMs: 24, lastRecord }), [
    "  checkpoints: 3 complete, 0 given up; the last one took 24 ms",
    "    took        alignment 1 ms, wait for bundles 20 ms, write 3 ms (the slowest task, each)",
    "    waited for  a running bundle (subtask 0 of [a])",
    "    unaligned   6 bytes were on their way",
    "    bytes       4 written, 5 in all",
  ]);
});
