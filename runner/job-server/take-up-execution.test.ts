// A streaming job under one job server after the other, in one checkpoint folder.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { silentLog } from "../base/log.ts";
import type { JobOutcome, TakeUp } from "./job-executor.ts";
import {
  diamond,
  type FakeWorker,
  FakeWorkers,
  ManualClock,
  RecordingObserver,
  runOf,
  settle,
} from "./streaming-fixture.ts";
import { StreamingExecution } from "./streaming-execution.ts";

/** Waits for files: they take their time, whatever the clock of the job says. */
async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 20_000 && !condition(); turn++) await settle();
  if (!condition()) throw new Error("it never happened");
}

function newDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), "weir-checkpoints-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** One job server's execution of the job, whose tasks all run. */
async function start(directory: string, takeUp?: TakeUp) {
  const workers = new FakeWorkers("w0");
  const clock = new ManualClock();
  const observer = new RecordingObserver();
  const init = { registry: workers, workerWaitMs: 60_000, checkpointDirectory: directory, clock, log: silentLog() };
  const run = runOf(diamond(), { checkpointing_interval: 1_000, execution_retry_delay: 0 });
  const execution = new StreamingExecution(init, { ...run, ...(takeUp === undefined ? {} : { takeUp }) }, observer);
  let outcome: JobOutcome | undefined;
  const ended = execution.run().then((result) => (outcome = result));
  const worker = workers.workers[0] as FakeWorker;
  const job = join(directory, "job-1");
  await until(() => outcome !== undefined || worker.all("deployStreamTasks").length === 1);
  const deployed = worker.all("deployStreamTasks")[0];
  if (deployed !== undefined) workers.tell(worker, "RUNNING");
  const attempt = deployed?.executionAttempt ?? 0;
  /** The next checkpoint, acknowledged by all tasks. @returns its id */
  const checkpoint = async () => {
    const before = worker.all("triggerCheckpoint").length;
    while (worker.all("triggerCheckpoint").length === before) {
      await clock.advance(500);
      await settle();
    }
    const checkpointId = worker.all("triggerCheckpoint").at(-1)?.checkpointId ?? 0n;
    for (const { vertexId, subtaskIndex } of deployed?.tasks ?? []) {
      const path = join(job, "state", `${vertexId}.${subtaskIndex}.${attempt}-${checkpointId}.base`);
      writeFileSync(path, "abc");
      const files = [{ path, byteLength: 3n, sha256: "00", inFlight: false }];
      const task = { jobId: "job-1", executionAttempt: attempt, checkpointId, vertexId, subtaskIndex };
      const times = { alignmentMs: 0n, commitWaitMs: 0n, writeMs: 0n };
      const notUnaligned = { inFlightBytes: 0n, unaligned: false, waitedFor: "" };
      workers.hear(worker, {
        $case: "checkpointAck",
        value: { ...task, ...notUnaligned, files, failure: "", ...times },
      });
    }
    const ends = () => worker.all("checkpointEnd").filter((end) => end.checkpointId === checkpointId);
    await until(() => outcome !== undefined || ends().length > 0);
    return { id: Number(checkpointId), complete: ends().at(-1)?.complete ?? false };
  };
  const restored = () => deployed?.tasks.flatMap((task) => task.restore.map(({ path }) => path)) ?? [];
  return { observer, attempt, checkpoint, restored, execution, ended, outcome: () => outcome, job };
}

const again: TakeUp = { count: 1, checkpointed: true, draining: false };

test("the next job server goes on from the newest checkpoint; attempts and ids are above all that were used", async (t) => {
  const directory = newDirectory(t);
  const first = await start(directory);
  t.is(first.attempt, 1);
  for (const id of [1, 2]) t.deepEqual(await first.checkpoint(), { id, complete: true });
  t.is(first.observer.checkpoints, 2);
  const second = await start(directory, again);
  t.is(second.attempt, 100_001);
  t.true(second.restored().length > 0);
  t.true(second.restored().every((path) => path.endsWith(".1-2.base")));
  t.true(second.observer.texts.includes("BASIC The job goes on from checkpoint 2."));
  t.deepEqual(await second.checkpoint(), { id: 3, complete: true });
  const manifest = JSON.parse(readFileSync(join(second.job, "checkpoint-3.json"), "utf8")) as Record<string, unknown>;
  t.deepEqual([manifest["leaderEpoch"], manifest["executionAttempt"]], [2, 100_001]);
  // What the former server wrote is deleted as if it were this one's.
  t.deepEqual(await second.checkpoint(), { id: 4, complete: true });
  const { job } = second;
  await until(() => readdirSync(join(job, "state")).every((name) => name.includes(".100001-")));
  t.deepEqual(
    readdirSync(job)
      .filter((name) => name.startsWith("checkpoint-"))
      .sort(),
    ["checkpoint-3.json", "checkpoint-4.json"],
  );
});

test("a job server that was superseded ends the job, announces no checkpoint, and deletes nothing", async (t) => {
  const directory = newDirectory(t);
  const older = await start(directory);
  await older.checkpoint();
  const newer = await start(directory, again);
  t.false((await older.checkpoint()).complete);
  await older.ended;
  t.regex((older.outcome() as { message: string }).message, /^Another job server has taken the job up/);
  // Its last manifest took that id.
  t.deepEqual(await newer.checkpoint(), { id: 2, complete: false });
  t.deepEqual(await newer.checkpoint(), { id: 3, complete: true });
  newer.execution.end({ kind: "done" });
  await newer.ended;
  t.throws(() => readdirSync(newer.job));
});

test("a job that had a checkpoint never begins again: with none left it fails and says where it looked", async (t) => {
  const directory = newDirectory(t);
  const first = await start(directory);
  await first.checkpoint();
  rmSync(first.job, { recursive: true });
  const second = await start(directory, again);
  await second.ended;
  t.regex(
    (second.outcome() as { message: string }).message,
    /^None of the checkpoints in .*job-1 can be restored, and to start from the beginning would repeat results/,
  );
});

test("a manifest that cannot be read is told of, and the one before it counts", async (t) => {
  const directory = newDirectory(t);
  const first = await start(directory);
  await first.checkpoint();
  await first.checkpoint();
  writeFileSync(join(first.job, "checkpoint-2.json"), "{");
  const second = await start(directory, again);
  t.true(second.restored().every((path) => path.endsWith(".1-1.base")));
  t.regex(second.observer.texts[0] ?? "", /^ERROR Checkpoint 2 cannot be gone back to: .*checkpoint-2.json/);
});

test("a job that had no complete checkpoint begins again", async (t) => {
  const directory = newDirectory(t);
  await start(directory);
  const second = await start(directory, { ...again, checkpointed: false });
  t.deepEqual([second.restored(), second.attempt], [[], 100_001]);
  t.true(second.observer.texts.includes("BASIC The job goes on from the beginning: it had no complete checkpoint."));
});

test("a job server counts a checkpoint that the one before it had no time to count, and none twice", async (t) => {
  const directory = newDirectory(t);
  await (await start(directory)).checkpoint();
  const second = await start(directory, again);
  t.is(second.observer.formerCheckpoints, 1);
  const third = await start(directory, { ...again, count: 2 });
  t.is(third.observer.formerCheckpoints, 0);
});
