// What a lost worker takes with it of a job with two regions, and what goes on.
import { truncateSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { acknowledge, type Started, startGraph, until } from "../../test/support/checkpoint-fixture.ts";
import { silentLog } from "../base/log.ts";
import type { WorkerId } from "../base/ids.ts";
import { pipelinedRegions } from "../graph/pipelined-regions.ts";
import type { JobOutcome } from "./job-executor.ts";
import { StreamingExecution } from "./streaming-execution.ts";
import {
  counterInfo,
  counterValues,
  dataset,
  type FakeWorker,
  FakeWorkers,
  graphOf,
  ManualClock,
  RecordingObserver,
  runOf,
  settle,
  twoRegions,
  vertex,
} from "./streaming-fixture.ts";
import { planStreaming } from "./streaming-plan.ts";

const workersOf = (...names: string[]) =>
  names.map((name) => ({ workerId: name as WorkerId, exchangeAddress: `${name}:1` }));

function start(...names: string[]) {
  const workers = new FakeWorkers(...names);
  const clock = new ManualClock();
  const observer = new RecordingObserver();
  const init = { registry: workers, workerWaitMs: 60_000, checkpointDirectory: "/nowhere", clock, log: silentLog() };
  const execution = new StreamingExecution(init, runOf(twoRegions(), { parallelism: 1 }), observer);
  let outcome: JobOutcome | undefined;
  const ended = execution.run().then((result) => (outcome = result));
  return { workers, clock, observer, execution, ended, outcome: () => outcome };
}

const vertices = (worker: FakeWorker) =>
  worker.all("deployStreamTasks").map(({ tasks }) => tasks.map(({ vertexId }) => vertexId).join(""));

test("what datasets connect is one region, side inputs too; a job with a TestStream is one", (t) => {
  const regions = (graph: ReturnType<typeof twoRegions>) =>
    pipelinedRegions(graph).map((ids) => [...ids].sort().join(""));
  t.deepEqual(regions(twoRegions()), ["abc", "de"]);
  const joined = [vertex("a", "impulse", []), vertex("b", "impulse", []), vertex("c", "read", ["ac", "bc"])];
  t.deepEqual(regions(graphOf(joined, [dataset("ac", "a", "hash"), dataset("bc", "b", "hash")])), ["abc"]);
  t.deepEqual(regions(graphOf([vertex("a", "test-stream", []), vertex("b", "impulse", [])], [])), ["ab"]);
});

test("regions begin at one worker after the other, and share each worker's memory", (t) => {
  const plan = planStreaming({ graph: twoRegions(), parallelism: 2, workers: workersOf("w0", "w1") });
  t.deepEqual(
    plan.tasks.map(({ key, region, workerId }) => `${key} ${region} ${workerId}`),
    ["a.0 0 w0", "d.0 1 w1", "b.0 0 w0", "b.1 0 w1", "c.0 0 w0", "e.0 1 w1", "e.1 1 w0"],
  );
  t.deepEqual(
    plan.regions.map(({ byWorker }) => [...byWorker].map(([workerId, tasks]) => `${workerId} ${tasks.length}`)),
    [
      ["w0 3", "w1 1"],
      ["w1 2", "w0 1"],
    ],
  );
  // On w0: a's and c's two outputs each, two inputs of b.0, one of e.1.
  t.deepEqual(plan.loads.get("w0" as WorkerId), { taskCount: 4, channelCount: 7 });
});

test("the region of a lost worker begins again elsewhere, the other one goes on and may end meanwhile", async (t) => {
  const { workers, clock, observer, ended, execution } = start("w0", "w1");
  const [first, second] = workers.workers as [FakeWorker, FakeWorker];
  t.deepEqual([vertices(first), vertices(second)], [["abc"], ["de"]]);
  workers.tell(first, "RUNNING");
  workers.tell(second, "RUNNING");
  workers.lose(second);
  t.regex(
    observer.texts[0] ?? "",
    /Worker w1 is lost.*; what is connected to it restarts from the beginning.*; the rest goes on\./,
  );
  t.deepEqual(
    first.all("cancelStreamTasks").map(({ region, executionAttempt }) => [region, executionAttempt]),
    [[1, 2]],
  );
  workers.tell(first, "FINISHED");
  t.deepEqual(
    execution.progress.tasks.map(({ vertexId, state }) => `${vertexId} ${state}`),
    ["a finished", "d deployed", "b finished", "c finished", "e deployed"],
  );
  await clock.advance(2_500);
  t.deepEqual(vertices(first), ["abc", "de"]);
  t.deepEqual(
    first.deployed.map(({ region, executionAttempt }) => [region, executionAttempt]),
    [
      [0, 1],
      [1, 3],
    ],
  );
  t.is(first.deployed[1]?.workerTaskCount, 5);
  workers.tell(first, "FINISHED");
  t.deepEqual(await ended, { kind: "done" });
});

test("a region that is lost while another one is down comes up with it; the next lost worker counts as a restart of all", async (t) => {
  const { workers, clock, observer } = start("w0", "w1");
  const [first, second] = workers.workers as [FakeWorker, FakeWorker];
  workers.lose(second);
  await clock.advance(100);
  const third = workers.join("w2");
  workers.lose(first);
  t.regex(observer.texts[1] ?? "", /Worker w0 is lost.*; the job restarts from.*restart 2 of 3/);
  await clock.advance(2_500);
  t.deepEqual([vertices(third)].flat().sort(), ["abc", "de"]);
  t.deepEqual(
    third.deployed.map(({ executionAttempt }) => executionAttempt).toSorted((one, other) => one - other),
    [3, 4],
  );
});

test("a replacement takes the lost worker's place, and the region that goes on stays where it is", async (t) => {
  const { workers, clock } = start("w0", "w1", "w2");
  const [first, second] = workers.workers as [FakeWorker, FakeWorker];
  workers.lose(first);
  const late = workers.join("w3");
  await clock.advance(2_500);
  t.deepEqual([vertices(late), vertices(second)], [["abc"], ["de"]]);
});

test("a task that fails takes its region alone", async (t) => {
  const { workers, clock, outcome } = start("w0", "w1");
  const [first, second] = workers.workers as [FakeWorker, FakeWorker];
  const failure = {
    message: "no",
    domain: "external",
    code: "UNAVAILABLE",
    retry: true,
    lostInput: [],
    environmentLost: false,
  };
  workers.tell(second, "FAILED", { failure });
  await clock.advance(2_500);
  t.is(outcome(), undefined);
  t.deepEqual([vertices(first), vertices(second)], [["abc"], ["de", "de"]]);
});

test("committed metrics of a region that goes on stay, those of the other one begin anew", async (t) => {
  const { workers, clock, observer, ended } = start("w0", "w1");
  const [first, second] = workers.workers as [FakeWorker, FakeWorker];
  const tell = (taskAttemptId: string, value: number) =>
    workers.hear(first, {
      $case: "metrics",
      value: { jobId: "job-1", taskAttemptId, committed: [counterInfo(value)], attempted: [counterInfo(value)] },
    });
  tell("b.0.1", 3);
  tell("e.0.2", 20);
  workers.lose(second);
  await clock.advance(2_500);
  tell("e.0.2", 90);
  tell("e.0.3", 7);
  tell("b.0.1", 4);
  workers.tell(first, "FINISHED");
  await ended;
  t.deepEqual([counterValues(observer.attempted), counterValues(observer.committed)], [[31], [11]]);
});

async function begun(started: Started) {
  const [first, second] = started.workers.workers as [FakeWorker, FakeWorker];
  started.workers.tell(first, "RUNNING");
  started.workers.tell(second, "RUNNING");
  const checkpoint = async () => {
    const count = first.all("triggerCheckpoint").length;
    const ended = first.all("checkpointEnd").length;
    await started.clock.advance(1_000);
    await until(() => first.all("triggerCheckpoint").length === count + 1);
    for (const worker of started.workers.workers)
      if (worker.deployed.length > 0)
        acknowledge(started, "", worker, Number(first.all("triggerCheckpoint").at(-1)?.checkpointId));
    await until(() => first.all("checkpointEnd").length === ended + 1);
  };
  return { first, second, checkpoint };
}

test("a checkpoint that misses a region is given up where tasks go on, and the next one has both again", async (t) => {
  const started = await startGraph(t, twoRegions(), { parallelism: 1 }, "w0", "w1");
  const { workers, clock } = started;
  const { first, second, checkpoint } = await begun(started);
  await checkpoint();
  await clock.advance(1_000);
  t.deepEqual(
    [first, second].map((worker) =>
      worker.all("triggerCheckpoint").map(({ executionAttempt: of, checkpointId: id }) => [of, id]),
    ),
    [
      [
        [1, 1n],
        [1, 2n],
      ],
      [
        [2, 1n],
        [2, 2n],
      ],
    ],
  );
  acknowledge(started, "", first, 2);
  workers.lose(second);
  const ended = first.all("checkpointEnd").at(-1);
  t.deepEqual([ended?.executionAttempt, ended?.checkpointId, ended?.complete], [1, 2n, false]);
  // None begins while a region is down, and what it still says counts for nothing.
  await clock.advance(1_500);
  t.is(first.all("triggerCheckpoint").length, 2);
  const third = workers.join("w2");
  await clock.advance(0);
  await until(() => third.deployed.length === 1);
  t.deepEqual(
    third.deployed.flatMap(({ tasks }) => tasks.map(({ restore }) => restore[0]?.path)),
    ["d.0-1", "e.0-1"].map((name) => join(started.job, "state", name)),
  );
  workers.tell(third, "RUNNING");
  await checkpoint();
  t.deepEqual(
    [first, third].map((worker) => {
      const { executionAttempt, checkpointId, complete } = worker.all("checkpointEnd").at(-1) ?? {};
      return [executionAttempt, checkpointId, complete];
    }),
    [
      [1, 3n, true],
      [3, 3n, true],
    ],
  );
});

test("a checkpoint whose manifest is being written when a region is lost is told of as complete where tasks go on", async (t) => {
  const started = await startGraph(t, twoRegions(), { parallelism: 1 }, "w0", "w1");
  const { workers, clock } = started;
  const { first, second } = await begun(started);
  await clock.advance(1_000);
  await until(() => second.all("triggerCheckpoint").length === 1);
  acknowledge(started, "", first);
  acknowledge(started, "", second);
  workers.lose(second);
  await until(() => first.all("checkpointEnd").length > 0);
  t.deepEqual(
    first.all("checkpointEnd").map(({ complete }) => complete),
    [true],
  );
  const third = workers.join("w2");
  await clock.advance(1_500);
  await until(() => third.deployed.length === 1);
  t.regex(third.deployed[0]?.tasks[0]?.restore[0]?.path ?? "", /d\.0-1$/);
});

test("where the newest checkpoint is damaged no region goes on from it", async (t) => {
  const started = await startGraph(t, twoRegions(), { parallelism: 1 }, "w0", "w1");
  const { workers, clock } = started;
  const { first, second, checkpoint } = await begun(started);
  await checkpoint();
  await checkpoint();
  truncateSync(join(started.job, "state", "e.0-2"), 1);
  workers.lose(second);
  const third = workers.join("w2");
  await clock.advance(1_500);
  await until(() => third.deployed.length === 1 && first.all("deployStreamTasks").length === 2);
  for (const worker of [first, third])
    for (const { restore } of worker.deployed.flatMap(({ tasks }) => tasks)) t.regex(restore[0]?.path ?? "", /-1$/);
  await settle();
});
