import { readdirSync, readFileSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { acknowledge, manifests, start, takeCheckpoint, until } from "../../test/support/checkpoint-fixture.ts";
import { type FakeWorker, settle } from "./streaming-fixture.ts";

test("checkpoints begin when all tasks run, complete when all have acknowledged, and the last two are kept", async (t) => {
  const started = await start(t);
  const { workers, worker, clock, execution, job } = started;
  await clock.advance(5_000);
  t.is(worker.all("triggerCheckpoint").length, 0);
  t.is(worker.all("deployStreamTasks")[0]?.checkpointDirectory, join(job, "state"));
  workers.tell(worker, "RUNNING");
  for (let id = 1; id <= 3; id++) {
    await takeCheckpoint(started);
    t.deepEqual(worker.all("checkpointEnd").at(-1), {
      jobId: "job-1",
      executionAttempt: 1,
      checkpointId: BigInt(id),
      complete: true,
      stop: false,
    });
  }
  await until(() => readdirSync(join(job, "state")).length === 8);
  t.deepEqual(manifests(started), ["checkpoint-2.json", "checkpoint-3.json"]);
  const { lastRecord, ...counts } = execution.progress.checkpoints ?? {};
  t.deepEqual(counts, { completed: 3, aborted: 0, lastDurationMs: 0 });
  t.is(lastRecord?.alignmentMs, 20);
});

test("what hurts is on each checkpoint's record, and told once", async (t) => {
  const started = await start(t, { checkpointing_interval: 900 });
  const { workers, worker, clock, observer, job } = started;
  workers.tell(worker, "RUNNING");
  await clock.advance(0);
  const texts = () => observer.texts.filter((text) => text.startsWith("WARNING"));
  t.is(texts().length, 1);
  t.regex(texts()[0] ?? "", /--checkpointing_interval is 900 ms/);
  for (let id = 1; id <= 2; id++) {
    await clock.advance(1_000);
    await until(() => worker.all("triggerCheckpoint").length === id);
    await clock.advance(2_500);
    acknowledge(started);
    await until(() => worker.all("checkpointEnd").length === id);
  }
  t.is(texts().length, 2);
  t.regex(texts()[1] ?? "", /took 2[56]00 ms.*--checkpointing_interval.*8000 ms leaves room/);
  const content = readFileSync(join(job, "checkpoint-2.json"), "utf8");
  const { record } = JSON.parse(content) as { record: { warnings: string[] } };
  const taskCount = worker.all("deployStreamTasks")[0]?.tasks.length ?? 0;
  const { warnings, ...figures } = record;
  t.is(warnings.length, 2);
  const bytes = 3 * taskCount;
  t.deepEqual(figures, {
    alignmentMs: 20,
    commitWaitMs: 5,
    waitedFor: "a running bundle (subtask 0 of [a])",
    writtenBytes: bytes,
    stateBytes: bytes,
    inFlightBytes: 7 * taskCount,
    unaligned: true,
    writeMs: 10,
  });
});

test("after a loss the job goes on from the newest checkpoint, each task from its own files", async (t) => {
  const started = await start(t);
  const { workers, worker, clock, observer } = started;
  workers.tell(worker, "RUNNING");
  await takeCheckpoint(started);
  await takeCheckpoint(started);
  workers.tell(worker, "FAILED", {
    failure: {
      message: "gone",
      domain: "external",
      code: "UNAVAILABLE",
      retry: true,
      lostInput: [],
      environmentLost: false,
    },
  });
  t.regex(observer.texts.at(-1) ?? "", /restarts from checkpoint 2/);
  await clock.advance(0);
  await until(() => worker.all("deployStreamTasks").length === 2);
  for (const task of worker.all("deployStreamTasks").at(-1)?.tasks ?? [])
    t.is(task.restore[0]?.path, join(started.job, "state", `${task.vertexId}.${task.subtaskIndex}-2`));
  workers.tell(worker, "RUNNING");
  await takeCheckpoint(started);
  t.is(worker.all("checkpointEnd").at(-1)?.checkpointId, 3n);
});

test("a checkpoint with a damaged file is passed over, loudly; when none is left the job fails rather than repeat", async (t) => {
  const started = await start(t);
  const { workers, worker, clock, observer, job, ended } = started;
  const lose = () =>
    workers.tell(worker, "FAILED", {
      failure: {
        message: "gone",
        domain: "external",
        code: "UNAVAILABLE",
        retry: true,
        lostInput: [],
        environmentLost: false,
      },
    });
  workers.tell(worker, "RUNNING");
  await takeCheckpoint(started);
  await takeCheckpoint(started);
  truncateSync(join(job, "state", "c.0-2"), 2);
  lose();
  await clock.advance(0);
  await until(() => worker.all("deployStreamTasks").length === 2);
  t.regex(observer.texts.at(-1) ?? "", /^ERROR Checkpoint 2 cannot be restored.*c\.0-2 has 2 bytes, not 3/);
  t.regex(worker.all("deployStreamTasks")[1]?.tasks[0]?.restore[0]?.path ?? "", /-1$/);
  rmSync(join(job, "state", "c.0-1"));
  lose();
  await clock.advance(0);
  const result = await ended;
  t.regex(result.kind === "failed" ? result.message : "", /None of the checkpoints.*would repeat results/);
});

test("a task that cannot read its files sends the job back one checkpoint more", async (t) => {
  const started = await start(t);
  const { workers, worker, clock } = started;
  const fail = (code: string, retry: boolean) =>
    workers.tell(worker, "FAILED", {
      failure: { message: "bad checksum", domain: "external", code, retry, lostInput: [], environmentLost: false },
    });
  workers.tell(worker, "RUNNING");
  await takeCheckpoint(started);
  await takeCheckpoint(started);
  fail("UNAVAILABLE", true);
  await clock.advance(0);
  await until(() => worker.all("deployStreamTasks").length === 2);
  fail("DATA_LOSS", false);
  await clock.advance(0);
  await until(() => worker.all("deployStreamTasks").length === 3);
  t.regex(worker.all("deployStreamTasks")[2]?.tasks[0]?.restore[0]?.path ?? "", /-1$/);
});

test("a checkpoint that takes too long, or that a task cannot write, is given up and the next one is tried", async (t) => {
  const started = await start(t, { checkpoint_timeout_millis: 3_000 });
  const { workers, worker, clock, observer, execution } = started;
  workers.tell(worker, "RUNNING");
  await clock.advance(1_000);
  await until(() => worker.all("triggerCheckpoint").length === 1);
  await clock.advance(3_000);
  t.regex(
    observer.texts.at(-1) ?? "",
    /Checkpoint 1 is given up: after 3 s these tasks did not answer: subtask 0 of \[a\]/,
  );
  t.false(worker.all("checkpointEnd").at(-1)?.complete);
  await until(() => worker.all("triggerCheckpoint").length === 2);
  acknowledge(started, "disk full");
  t.regex(
    observer.texts.at(-1) ?? "",
    /Checkpoint 2 is given up: subtask 0 of \[a\] could not write its state: disk full/,
  );
  await takeCheckpoint(started);
  t.deepEqual(execution.progress.checkpoints?.completed, 1);
  t.deepEqual(execution.progress.checkpoints?.aborted, 2);
});

test("checkpoints that run at once complete in their order, and a savepoint waits for them", async (t) => {
  const started = await start(t, { num_concurrent_checkpoints: 2, checkpoint_timeout_millis: 60_000 });
  const { workers, worker, clock, execution, job } = started;
  workers.tell(worker, "RUNNING");
  for (const id of [1, 2]) {
    await clock.advance(1_000);
    await until(() => worker.all("triggerCheckpoint").length === id);
  }
  await clock.advance(5_000);
  t.is(worker.all("triggerCheckpoint").length, 2);
  acknowledge(started, "", worker, 1);
  acknowledge(started, "", worker, 2);
  await until(() => worker.all("checkpointEnd").length === 2);
  t.deepEqual(
    worker.all("checkpointEnd").map(({ checkpointId, complete }) => [checkpointId, complete]),
    [
      [1n, true],
      [2n, true],
    ],
  );
  await clock.advance(0);
  await until(() => worker.all("triggerCheckpoint").length === 3);
  const savepoint = execution.savepoint(join(job, "..", "savepoint"), false);
  savepoint.catch(() => undefined);
  await settle();
  t.is(worker.all("triggerCheckpoint").length, 3);
  acknowledge(started, "", worker, 3);
  await until(() => worker.all("triggerCheckpoint").length === 4);
  t.not(worker.all("triggerCheckpoint").at(-1)?.savepointPath, "");
  await clock.advance(10_000);
  t.is(worker.all("triggerCheckpoint").length, 4);
});

test("a checkpoint that all have acknowledged ends older ones that some have not, silently", async (t) => {
  const started = await start(t, { num_concurrent_checkpoints: 3, tolerable_checkpoint_failures: 0 });
  const { workers, worker, clock, observer, execution } = started;
  workers.tell(worker, "RUNNING");
  for (const id of [1, 2, 3]) {
    await clock.advance(1_000);
    await until(() => worker.all("triggerCheckpoint").length === id);
  }
  acknowledge(started, "", worker, 2);
  await until(() => worker.all("checkpointEnd").length === 2);
  t.deepEqual(
    worker.all("checkpointEnd").map(({ checkpointId, complete }) => [checkpointId, complete]),
    [
      [1n, false],
      [2n, true],
    ],
  );
  t.deepEqual(manifests(started), ["checkpoint-2.json"]);
  acknowledge(started, "", worker, 1);
  acknowledge(started, "", worker, 3);
  await until(() => worker.all("checkpointEnd").length === 3);
  t.deepEqual(manifests(started), ["checkpoint-2.json", "checkpoint-3.json"]);
  t.deepEqual([execution.progress.checkpoints?.completed, execution.progress.checkpoints?.aborted], [2, 1]);
  t.deepEqual(
    observer.texts.filter((text) => text.includes("given up")),
    [],
  );
});

test("barriers begin at the sources' workers only, and all workers hear the end", async (t) => {
  const started = await start(t, { parallelism: 2 }, "w0", "w1");
  const { workers, worker, clock } = started;
  const second = workers.workers[1] as FakeWorker;
  workers.tell(worker, "RUNNING");
  workers.tell(second, "RUNNING");
  await clock.advance(1_000);
  t.is(second.all("triggerCheckpoint").length, 0);
  acknowledge(started);
  await settle();
  t.is(worker.all("checkpointEnd").length, 0);
  acknowledge(started, "", second);
  await until(() => second.all("checkpointEnd").length === 1);
});

test("what has finished is in a last checkpoint before the job is done, and its checkpoints go with it", async (t) => {
  const started = await start(t);
  const { workers, worker, ended, outcome, job } = started;
  workers.tell(worker, "FINISHED");
  t.is(worker.all("triggerCheckpoint").length, 1);
  await settle();
  t.is(outcome(), undefined);
  acknowledge(started);
  t.deepEqual(await ended, { kind: "done" });
  t.deepEqual(
    worker.told.slice(-2).map(({ $case }) => $case),
    ["checkpointEnd", "releaseJob"],
  );
  t.throws(() => readdirSync(job));
});

test("more failed checkpoints in a row than the user tolerates restart the job, by its restart strategy", async (t) => {
  const started = await start(t, { tolerable_checkpoint_failures: 1, restart_strategy_type: "fixed-delay" });
  const { workers, worker, clock, observer, ended } = started;
  const fail = async () => {
    const count = worker.all("triggerCheckpoint").length;
    await clock.advance(1_000);
    await until(() => worker.all("triggerCheckpoint").length === count + 1);
    acknowledge(started, "disk full");
  };
  workers.tell(worker, "RUNNING");
  await fail();
  await takeCheckpoint(started);
  await fail();
  t.is(worker.all("cancelStreamTasks").length, 0);
  await fail();
  const why =
    "2 checkpoints in a row have failed, and --tolerable_checkpoint_failures=1 allows no more; the last one: ";
  t.true(observer.texts.at(-1)?.startsWith(`WARNING ${why}subtask 0 of [a] could not write its state: disk full;`));
  t.regex(observer.texts.at(-1) ?? "", /restarts from checkpoint 2 in 0 s \(restart 1 of 1\)/);
  await clock.advance(0);
  await until(() => worker.all("deployStreamTasks").length === 2);
  workers.tell(worker, "RUNNING");
  await fail();
  await fail();
  const result = await ended;
  t.regex(result.kind === "failed" ? result.message : "", /^The job failed again after 1 restart: 2 checkpoints in a/);
});

test("checkpoints that fail are told of within bounds, and a last one is tried until it is complete", async (t) => {
  const started = await start(t);
  const { workers, worker, clock, observer, ended, outcome } = started;
  workers.tell(worker, "RUNNING");
  for (let id = 1; id <= 20; id++) {
    await clock.advance(1_000);
    await until(() => worker.all("triggerCheckpoint").length === id);
    acknowledge(started, "disk full");
  }
  const told = () => observer.texts.filter((text) => text.includes("is given up"));
  t.is(told().length, 3);
  workers.tell(worker, "FINISHED");
  t.is(worker.all("triggerCheckpoint").length, 21);
  acknowledge(started, "disk full");
  await settle();
  t.is(worker.all("triggerCheckpoint").length, 21);
  await clock.advance(1_000);
  await until(() => worker.all("triggerCheckpoint").length === 22);
  t.is(outcome(), undefined);
  acknowledge(started);
  t.deepEqual(await ended, { kind: "done" });
  t.is(told().length, 3);
  t.regex(observer.texts.at(-1) ?? "", /^BASIC Checkpoint 22 is complete, after 21 in a row that were given up/);
});

test("externalized checkpoints outlive a failed job", async (t) => {
  const started = await start(t, { externalized_checkpoints_enabled: true });
  const { workers, worker, ended, clock } = started;
  workers.tell(worker, "RUNNING");
  await takeCheckpoint(started);
  workers.tell(worker, "FAILED");
  t.is((await ended).kind, "failed");
  t.deepEqual(manifests(started), ["checkpoint-1.json"]);
  t.is(clock.sleeping, 0);
});

test("a drained job tells its sources again after a restart, once all tasks run", async (t) => {
  const started = await start(t);
  const { workers, worker, execution, clock, ended } = started;
  execution.drain();
  t.is(worker.all("drainJob").length, 0);
  workers.tell(worker, "RUNNING");
  t.is(worker.all("drainJob").length, 1);
  workers.tell(worker, "FAILED", {
    failure: {
      message: "gone",
      domain: "external",
      code: "UNAVAILABLE",
      retry: true,
      lostInput: [],
      environmentLost: false,
    },
  });
  await clock.advance(0);
  await until(() => worker.all("deployStreamTasks").length === 2);
  workers.tell(worker, "FINISHED");
  t.is(worker.all("drainJob").at(-1)?.executionAttempt, 2);
  acknowledge(started);
  t.deepEqual(await ended, { kind: "drained" });
});
