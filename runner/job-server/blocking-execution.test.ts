import test from "ava";
import { TaskStateChange_State, type TaskFailure, type TaskStateChange } from "../../proto/gen/worker.ts";
import { silentLog } from "../base/log.ts";
import type { DatasetId } from "../base/ids.ts";
import type { ExecutableStageSpec, ExecutionGraph, VertexSpec } from "../graph/execution-graph.ts";
import { BlockingExecution } from "./blocking-execution.ts";
import type { JobOutcome } from "./job-executor.ts";
import { dataset, type FakeWorker, FakeWorkers, graphOf, ManualClock, RecordingObserver } from "./streaming-fixture.ts";
import { runOf, settle, vertex } from "./streaming-fixture.ts";

const STAGE = { sideInputs: [], sinks: [] } as unknown as ExecutableStageSpec;

/** impulse a → (hash) b → (hash) c */
function chain(more: Partial<VertexSpec> = { singleton: true }): ExecutionGraph {
  const writes = (id: string, head: "impulse" | "read", inputs: string[], outputs: string[]) => ({
    ...vertex(id, head, inputs),
    headOutputs: outputs as DatasetId[],
    ...(head === "read" ? more : {}),
  });
  return graphOf(
    [writes("a", "impulse", [], ["ab"]), writes("b", "read", ["ab"], ["bc"]), writes("c", "read", ["bc"], [])],
    [dataset("ab", "a", "hash"), dataset("bc", "b", "hash")],
  );
}

function start(workers: FakeWorkers, options: Record<string, unknown> = {}, graph = chain()) {
  const clock = new ManualClock();
  const observer = new RecordingObserver();
  const init = { registry: workers, defaultParallelism: 2, workerWaitMs: 60_000, clock, log: silentLog() };
  const execution = new BlockingExecution(init, runOf(graph, { streaming: false, ...options }), observer);
  let outcome: JobOutcome | undefined;
  const ended = execution.run().then((result) => (outcome = result));
  return { clock, observer, ended, outcome: () => outcome };
}

/** What the worker was told last to run. */
function lastTask(worker: FakeWorker) {
  return worker.all("deployTask").at(-1);
}

function tell(workers: FakeWorkers, worker: FakeWorker, change: Partial<TaskStateChange>): void {
  const value = {
    jobId: "job-1",
    taskAttemptId: lastTask(worker)?.taskAttemptId ?? "",
    state: TaskStateChange_State.FINISHED,
    sealed: Object.keys(lastTask(worker)?.outputPartitions ?? {}).map((datasetId) => ({
      datasetId,
      partitions: [{ index: 0, byteLength: 10n, elementCount: 1n, restrictionSize: 0 }],
    })),
    failure: undefined,
    ...change,
  };
  workers.hear(worker, { $case: "taskState", value });
}

function failed(message: string, more: Partial<TaskFailure> = {}): Partial<TaskStateChange> {
  const failure = { message, domain: "user", code: "ABORTED", retry: false, lostInput: [], environmentLost: false };
  return { state: TaskStateChange_State.FAILED, sealed: [], failure: { ...failure, ...more } };
}

test("stages run one after the other, and the job is done when the last has finished", async (t) => {
  const workers = new FakeWorkers("w0");
  const [worker] = workers.workers as [FakeWorker];
  const { ended, observer } = start(workers);
  for (const id of ["a", "b", "c"]) {
    t.is(lastTask(worker)?.vertexId, id);
    tell(workers, worker, {});
  }
  t.deepEqual(await ended, { kind: "done" });
  t.deepEqual(observer.texts, []);
});

test("a job that does not say is not restarted for a failure of its pipeline", async (t) => {
  const workers = new FakeWorkers("w0");
  const { ended } = start(workers);
  tell(workers, workers.workers[0] as FakeWorker, failed("ValueError: no"));
  t.deepEqual(await ended, { kind: "failed", message: "ValueError: no" });
});

test("number_of_execution_retries and execution_retry_delay: a failed task runs again after the delay, so often", async (t) => {
  const workers = new FakeWorkers("w0");
  const [worker] = workers.workers as [FakeWorker];
  const options = { number_of_execution_retries: 2, execution_retry_delay: 5_000 };
  const { ended, clock, observer, outcome } = start(workers, options);
  tell(workers, worker, {});
  for (let restart = 1; restart <= 2; restart++) {
    tell(workers, worker, failed("ValueError: no"));
    const deployed = worker.all("deployTask").length;
    await clock.advance(4_999);
    t.is(worker.all("deployTask").length, deployed);
    await clock.advance(1);
    t.is(worker.all("deployTask").length, deployed + 1);
    t.is(lastTask(worker)?.vertexId, "b");
    t.regex(observer.texts.at(-1) ?? "", new RegExp(`in 5 s \\(restart ${restart} of 2\\): ValueError: no`));
  }
  t.is(outcome(), undefined);
  tell(workers, worker, failed("ValueError: no"));
  t.deepEqual(await ended, {
    kind: "failed",
    message: "The job failed again after 2 restarts, the last time: ValueError: no",
  });
});

test("no retries: the first loss fails the job, by its own message", async (t) => {
  const workers = new FakeWorkers("w0");
  const { ended } = start(workers, { number_of_execution_retries: 0 });
  tell(workers, workers.workers[0] as FakeWorker, failed("the harness is lost", { retry: true }));
  t.deepEqual(await ended, { kind: "failed", message: "the harness is lost" });
});

test("a lost worker is one restart, whatever else its loss brings about", async (t) => {
  const workers = new FakeWorkers("w0", "w1");
  const { observer, ended, clock } = start(workers, { number_of_execution_retries: 1, execution_retry_delay: 100 });
  const [first] = workers.workers.filter((worker) => lastTask(worker) !== undefined) as [FakeWorker];
  const [second] = workers.workers.filter((worker) => worker !== first) as [FakeWorker];
  tell(workers, first, {});
  t.is(lastTask(first)?.vertexId, "b");
  workers.lose(first);
  t.regex(
    observer.texts[0] ?? "",
    /Worker w\d is lost \(it was killed\); its work runs again in 0.1 s \(restart 1 of 1\)/,
  );
  await clock.advance(100);
  for (const id of ["a", "b", "c"]) {
    t.is(lastTask(second)?.vertexId, id);
    tell(workers, second, {});
  }
  t.deepEqual(await ended, { kind: "done" });
});

test("a worker that is lost without any work of the job costs no restart", async (t) => {
  const workers = new FakeWorkers("w0", "w1");
  const { ended } = start(workers, { number_of_execution_retries: 0 });
  const idle = workers.workers.find((worker) => lastTask(worker) === undefined) as FakeWorker;
  const busy = workers.workers.find((worker) => worker !== idle) as FakeWorker;
  workers.lose(idle);
  for (let at = 0; at < 3; at++) tell(workers, busy, {});
  t.deepEqual(await ended, { kind: "done" });
});

test("a client that is gone ends its job, whatever the restart strategy", async (t) => {
  const workers = new FakeWorkers("w0");
  const { ended } = start(workers, { number_of_execution_retries: 5 });
  const gone = failed("The client is gone.", { environmentLost: true });
  tell(workers, workers.workers[0] as FakeWorker, gone);
  t.deepEqual(await ended, { kind: "failed", message: "The client is gone." });
});

test("a job that ends leaves no timer behind", async (t) => {
  const workers = new FakeWorkers("w0");
  const options = { number_of_execution_retries: 2, execution_retry_delay: 5_000 };
  const { ended, clock, outcome } = start(workers, options);
  tell(workers, workers.workers[0] as FakeWorker, failed("no", { environmentLost: false }));
  tell(workers, workers.workers[0] as FakeWorker, failed("gone", { environmentLost: true }));
  await settle();
  t.is(outcome(), undefined, "the attempt that failed is not running any more");
  await clock.advance(5_000);
  tell(workers, workers.workers[0] as FakeWorker, failed("gone", { environmentLost: true }));
  await ended;
  t.is(clock.sleeping, 0);
});

test("an idle worker helps a task that takes long, with what that gives away", async (t) => {
  const workers = new FakeWorkers("w0", "w1");
  const { ended, clock } = start(workers, {}, chain({ stage: STAGE }));
  const [first] = workers.workers.filter((worker) => lastTask(worker) !== undefined) as [FakeWorker];
  const [second] = workers.workers.filter((worker) => worker !== first) as [FakeWorker];
  tell(workers, first, {});
  const slow = lastTask(first);
  t.is(slow?.vertexId, "b");
  await clock.advance(2_000);
  t.deepEqual(first.all("splitTask"), [], "not worth it yet");
  await clock.advance(60_000);
  const request = { jobId: "job-1", taskAttemptId: slow?.taskAttemptId ?? "" };
  t.deepEqual(first.all("splitTask"), [request], "one question at a time");
  const partition = { index: 0, byteLength: 3n, elementCount: 2n, restrictionSize: 0 };
  workers.hear(first, { $case: "taskSplit", value: { ...request, datasetId: "given", partition } });
  const helping = lastTask(second);
  t.is(helping?.vertexId, "b");
  t.like(helping?.mainInput, [{ datasetId: "given", taskAttemptId: request.taskAttemptId, exchangeAddress: "w0:1" }]);
  await clock.advance(60_000);
  t.is(first.all("splitTask").length, 1, "nobody is idle");
  tell(workers, first, {});
  t.is(lastTask(first), slow, "the stage has not ended");
  tell(workers, second, {});
  t.is(lastTask(first)?.vertexId, "c");
  tell(workers, first, {});
  t.deepEqual(await ended, { kind: "done" });
});

test("a task that has nothing to give is asked less and less often; nobody is asked where no worker is idle", async (t) => {
  const workers = new FakeWorkers("w0", "w1");
  const { clock, ended } = start(workers, {}, chain({ stage: STAGE }));
  const [first] = workers.workers.filter((worker) => lastTask(worker) !== undefined) as [FakeWorker];
  tell(workers, first, {});
  const told = first.onTold;
  first.onTold = (message) => {
    if (message.$case === "splitTask")
      workers.hear(first, { $case: "taskSplit", value: { ...message.value, datasetId: "", partition: undefined } });
    else told?.(message);
  };
  await clock.advance(20_000);
  const asked = first.all("splitTask").length;
  t.true(asked >= 2 && asked <= 4, `asked ${asked} times`);
  workers.lose(workers.workers.find((worker) => worker !== first) as FakeWorker);
  await clock.advance(120_000);
  t.is(first.all("splitTask").length, asked);
  for (let at = 0; at < 2; at++) tell(workers, first, {});
  t.deepEqual(await ended, { kind: "done" });
});
