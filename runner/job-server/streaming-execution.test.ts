import test from "ava";
import { silentLog } from "../base/log.ts";
import type { ExecutionGraph } from "../graph/execution-graph.ts";
import type { JobOutcome } from "./job-executor.ts";
import {
  counterInfo,
  counterValues,
  diamond,
  FakeWorkers,
  type FakeWorker,
  ManualClock,
  RecordingObserver,
  runOf,
} from "./streaming-fixture.ts";
import { settle } from "./streaming-fixture.ts";
import { StreamingExecution } from "./streaming-execution.ts";

function start(workers: FakeWorkers, graph: ExecutionGraph = diamond(), options: Record<string, unknown> = {}) {
  const clock = new ManualClock();
  const observer = new RecordingObserver();
  const init = { registry: workers, workerWaitMs: 60_000, checkpointDirectory: "/nowhere", clock, log: silentLog() };
  const execution = new StreamingExecution(init, runOf(graph, options), observer);
  let outcome: JobOutcome | undefined;
  const ended = execution.run().then((result) => (outcome = result));
  return { clock, observer, execution, ended, outcome: () => outcome };
}

const failure = (message: string, retry: boolean) => ({
  failure: { message, domain: "user", code: "INTERNAL", retry, lostInput: [], environmentLost: false },
});

test("a job opens on its workers, runs all its tasks at once and is done when all have finished", async (t) => {
  const workers = new FakeWorkers("w0", "w1");
  const { observer, ended, outcome, execution } = start(workers, diamond(), { parallelism: 2 });
  const [first, second] = workers.workers as [FakeWorker, FakeWorker];
  t.true(observer.isRunning);
  for (const worker of workers.workers)
    t.deepEqual(
      worker.told.map(({ $case }) => $case),
      ["openJob", "deployStreamTasks"],
    );
  t.is(second.all("deployStreamTasks")[0]?.executionAttempt, 1);
  workers.tell(first, "FINISHED");
  workers.tell(first, "FINISHED");
  await settle();
  t.is(outcome(), undefined);
  t.deepEqual(
    execution.progress.tasks.map(({ state }) => state),
    ["finished", "finished", "deployed", "finished", "deployed", "finished", "deployed"],
  );
  workers.tell(second, "FINISHED");
  t.deepEqual(await ended, { kind: "done" });
  for (const worker of workers.workers) t.is(worker.all("releaseJob").length, 1);
});

test("a failure that would come again fails the job with its own message", async (t) => {
  const workers = new FakeWorkers("w0");
  const { ended } = start(workers);
  workers.tell(workers.workers[0] as FakeWorker, "FAILED", failure("ValueError: no", false));
  t.deepEqual(await ended, { kind: "failed", message: "ValueError: no" });
});

test("a lost worker restarts everything on those that are left, and messages of the old attempt count for nothing", async (t) => {
  const workers = new FakeWorkers("w0", "w1");
  const { observer, ended, outcome, clock } = start(workers, diamond(), { parallelism: 2 });
  const [first, second] = workers.workers as [FakeWorker, FakeWorker];
  workers.lose(second);
  t.is(first.all("cancelStreamTasks")[0]?.executionAttempt, 1);
  t.regex(observer.texts[0] ?? "", /WARNING Worker w1 is lost \(it was killed\); the job restarts.*restart 1 of 3/);
  workers.tell(first, "FAILED", failure("its channel ended", false));
  await clock.advance(2_499);
  t.is(first.all("deployStreamTasks").length, 1);
  await clock.advance(1);
  const deployed = first.all("deployStreamTasks").at(-1);
  t.deepEqual([deployed?.executionAttempt, deployed?.tasks.length], [2, 7]);
  t.is(first.all("openJob").length, 1);
  workers.tell(first, "FINISHED", { executionAttempt: 1 });
  await settle();
  t.is(outcome(), undefined);
  workers.tell(first, "FINISHED");
  t.deepEqual(await ended, { kind: "done" });
});

test("a replacement of the lost worker gets its share again", async (t) => {
  const workers = new FakeWorkers("w0", "w1");
  const { clock } = start(workers, diamond(), { parallelism: 2 });
  const [first, second] = workers.workers as [FakeWorker, FakeWorker];
  workers.lose(second);
  await clock.advance(1_000);
  const third = workers.join("w2");
  await settle();
  t.is(first.all("deployStreamTasks").at(-1)?.tasks.length, 4);
  t.is(third.all("deployStreamTasks").at(-1)?.tasks.length, 3);
});

test("a job that loses its worker again and again without getting further fails, and says why it may be", async (t) => {
  const workers = new FakeWorkers("w0");
  const { ended, clock, outcome } = start(workers);
  for (let attempt = 1; attempt <= 4; attempt++) {
    t.is(outcome(), undefined);
    workers.lose(workers.workers[0] as FakeWorker);
    await clock.advance(2_500);
    workers.join(`w${attempt}`);
    await settle();
  }
  const result = await ended;
  t.regex(result.kind === "failed" ? result.message : "", /again after 3 restarts, the last one w3.*end the worker/);
});

test("the number of restarts and their delay are the user's, for failures of the pipeline too", async (t) => {
  const workers = new FakeWorkers("w0");
  const options = { number_of_execution_retries: 1, execution_retry_delay: 2_000 };
  const { ended, clock } = start(workers, diamond(), options);
  const worker = workers.workers[0] as FakeWorker;
  workers.tell(worker, "FAILED", failure("flaky", false));
  await clock.advance(1_999);
  t.is(worker.all("deployStreamTasks").length, 1);
  await clock.advance(1);
  t.is(worker.all("deployStreamTasks").length, 2);
  workers.tell(worker, "FAILED", failure("flaky", false));
  t.deepEqual(await ended, { kind: "failed", message: "The job failed again after 1 restart, the last time: flaky" });
});

test("a job waits for its first worker, and fails when none comes", async (t) => {
  const late = new FakeWorkers();
  const waiting = start(late);
  t.false(waiting.observer.isRunning);
  await waiting.clock.advance(1_000);
  const worker = late.join("w0");
  t.is(worker.all("deployStreamTasks").length, 1);
  late.tell(worker, "FINISHED");
  t.deepEqual(await waiting.ended, { kind: "done" });

  const lonely = start(new FakeWorkers());
  await lonely.clock.advance(61_000);
  const result = await lonely.ended;
  t.regex(result.kind === "failed" ? result.message : "", /no worker for 60 s/);
});

test("a cancelled job ends on its workers and nothing of it goes on", async (t) => {
  const workers = new FakeWorkers("w0");
  const { execution, ended, clock } = start(workers, diamond("test-stream"));
  execution.end({ kind: "cancelled" });
  t.deepEqual(await ended, { kind: "cancelled" });
  await execution.released;
  await settle();
  t.is(clock.sleeping, 0);
});

test("metrics are summed over tasks; of earlier attempts only the attempted ones count", async (t) => {
  const workers = new FakeWorkers("w0");
  const { observer, clock, ended } = start(workers);
  const worker = workers.workers[0] as FakeWorker;
  const tell = (taskAttemptId: string, value: number) =>
    workers.hear(worker, {
      $case: "metrics",
      value: { jobId: "job-1", taskAttemptId, committed: [counterInfo(value)], attempted: [counterInfo(value)] },
    });
  tell("b.0.1", 3);
  workers.tell(worker, "FAILED", failure("gone", true));
  await clock.advance(500);
  tell("b.0.1", 50);
  tell("b.0.2", 4);
  tell("b.0.2", 5);
  tell("c.0.2", 6);
  workers.tell(worker, "FINISHED");
  await ended;
  t.deepEqual([counterValues(observer.attempted), counterValues(observer.committed)], [[14], [11]]);
});
