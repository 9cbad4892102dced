import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import { filesOf, type SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import { Savepoints } from "./savepoints.ts";
import {
  acknowledge,
  manifests,
  start,
  takeCheckpoint,
  until,
  type Started,
} from "../../test/support/checkpoint-fixture.ts";
import { defaultSavepointPath } from "./savepoint-folder.ts";
import { diamond, runOf } from "./streaming-fixture.ts";

const EMPTY_MANIFEST: SnapshotManifest = {
  jobId: "job-1",
  jobName: "job",
  checkpointId: 0,
  executionAttempt: 1,
  graphFingerprint: "",
  maxParallelism: 1,
  triggeredMs: 0,
  completedMs: 0,
  tasks: [],
};

async function running(t: ExecutionContext, options: Record<string, unknown> = {}) {
  const started = await start(t, options);
  started.workers.tell(started.worker, "RUNNING");
  const folder = join(started.job, "..", "..", `savepoint-${basename(join(started.job, ".."))}`);
  t.teardown(() => new CheckpointDirectory(folder).remove());
  return { ...started, folder };
}

/** As the tasks do: they copy their files before they acknowledge. */
function copyFiles({ worker, job }: Started): void {
  const trigger = worker.all("triggerCheckpoint").at(-1);
  const to = trigger?.savepointPath ?? "";
  mkdirSync(to, { recursive: true });
  for (const { vertexId, subtaskIndex } of worker.all("deployStreamTasks").at(-1)?.tasks ?? []) {
    const name = `${vertexId}.${subtaskIndex}-${trigger?.checkpointId}`;
    const source = join(job, "state", name);
    if (existsSync(source)) copyFileSync(source, join(to, name));
    else writeFileSync(join(to, name), "abc");
  }
}

async function triggered({ worker }: Started, count: number) {
  await until(() => worker.all("triggerCheckpoint").length === count);
  return worker.all("triggerCheckpoint").at(-1);
}

test("a savepoint is a checkpoint whose files are in the user's folder too; the job goes on", async (t) => {
  const started = await running(t, { unaligned_checkpoint_enabled: true });
  const { worker, execution, observer, folder } = started;
  await takeCheckpoint(started);
  t.is(worker.all("triggerCheckpoint")[0]?.overtakesAfterMs, 0n);
  const taken = execution.savepoint(folder, false);
  const trigger = await triggered(started, 2);
  t.is(trigger?.overtakesAfterMs, undefined);
  t.is(trigger?.savepointPath, join(folder, "state"));
  t.false(trigger?.savepointStops);
  copyFiles(started);
  acknowledge(started);
  const taskCount = worker.all("deployStreamTasks")[0]?.tasks.length ?? 0;
  t.deepEqual(await taken, { path: folder, checkpointId: 2, byteLength: 3 * taskCount });
  t.true(observer.texts.some((text) => text.includes(`Checkpoint 2 is a savepoint, too, in ${folder}.`)));
  await until(() => worker.all("checkpointEnd").length === 2);
  t.false(worker.all("checkpointEnd").at(-1)?.stop);
  for (let round = 0; round < 3; round++) await takeCheckpoint(started);
  await until(() => !manifests(started).includes("checkpoint-3.json"));
  t.deepEqual(manifests(started), ["checkpoint-4.json", "checkpoint-5.json"]);
  const directory = new CheckpointDirectory(folder);
  const manifest = await directory.read(2);
  await directory.verify(manifest);
  t.is(filesOf(manifest).length, taskCount);
  t.true(filesOf(manifest).every(({ path }) => path.startsWith(join(folder, "state"))));
});

test("a savepoint waits for the checkpoint that runs, and there is one at a time", async (t) => {
  const started = await running(t);
  const { worker, clock, execution, folder } = started;
  await clock.advance(1_000);
  await triggered(started, 1);
  const taken = execution.savepoint(folder, false);
  await t.throwsAsync(execution.savepoint(`${folder}-other`, false), { message: /is being taken already, in / });
  t.false(existsSync(`${folder}-other`));
  acknowledge(started);
  await triggered(started, 2);
  copyFiles(started);
  acknowledge(started);
  t.is((await taken).checkpointId, 2);
  t.is(worker.all("triggerCheckpoint").length, 2);
});

test("a job that is stopped ends with its savepoint: its tasks stand still, and it is done", async (t) => {
  const started = await running(t);
  const { worker, execution, folder, observer } = started;
  const taken = execution.savepoint(folder, true);
  t.true((await triggered(started, 1))?.savepointStops);
  copyFiles(started);
  acknowledge(started);
  t.is((await taken).path, folder);
  const end = worker.all("checkpointEnd").at(-1);
  t.true(end?.complete);
  t.true(end?.stop);
  t.true(observer.texts.some((text) => text.includes(`--savepoint_path=${folder}`)));
  await until(() => worker.all("releaseJob").length === 1);
  started.workers.hear(worker, { $case: "jobReleased", value: { jobId: "job-1" } });
  t.deepEqual(await started.ended, { kind: "done" });
  t.false(existsSync(started.job));
  t.deepEqual(readdirSync(folder).sort(), ["checkpoint-1.json", "state"]);
});

test("a savepoint that a task cannot write is given up with its reason, and the job goes on", async (t) => {
  const started = await running(t);
  const { worker, execution, folder } = started;
  const taken = execution.savepoint(folder, true);
  await triggered(started, 1);
  acknowledge(started, "the disk is full");
  await t.throwsAsync(taken, { message: /The savepoint in .* is given up: .*the disk is full.*The job goes on/s });
  const end = worker.all("checkpointEnd").at(-1);
  t.false(end?.complete);
  t.false(end?.stop);
  await until(() => !existsSync(folder));
  await takeCheckpoint(started);
  t.is(started.outcome(), undefined);
});

test("files that are not in the savepoint's folder fail the savepoint, not the checkpoint", async (t) => {
  const started = await running(t);
  const { worker, execution, folder } = started;
  const taken = execution.savepoint(folder, true);
  await triggered(started, 1);
  acknowledge(started);
  await t.throwsAsync(taken, { message: /is given up: .*is missing/s });
  await until(() => worker.all("checkpointEnd").length === 1);
  t.true(worker.all("checkpointEnd")[0]?.complete);
  t.false(worker.all("checkpointEnd")[0]?.stop);
  t.deepEqual(manifests(started), ["checkpoint-1.json"]);
});

test("of a savepoint that is given up while its manifest is written nothing is left", async (t) => {
  const { folder } = await running(t);
  const savepoints = new Savepoints();
  const taken = savepoints.take({ path: folder, stop: false }, () => savepoints.began(1));
  await until(() => savepoints.is(1));
  const manifest = { ...EMPTY_MANIFEST, checkpointId: 1 };
  const complete = savepoints.complete(manifest);
  savepoints.failed("its job ended.");
  t.is(await complete, undefined);
  await t.throwsAsync(taken, { message: /given up: its job ended/ });
  t.false(existsSync(folder));
});

test("a savepoint whose job is restarted is given up", async (t) => {
  const started = await running(t);
  const { workers, worker, execution, folder } = started;
  const taken = execution.savepoint(folder, false);
  await triggered(started, 1);
  workers.lose(worker);
  await t.throwsAsync(taken, { message: /tasks ended before it was complete/ });
  await t.throwsAsync(execution.savepoint(folder, false), { message: /its tasks are being started/ });
  await until(() => !existsSync(folder));
});

test("a folder with something in it, and a job without checkpoints, are refused by name", async (t) => {
  const started = await running(t);
  mkdirSync(started.folder, { recursive: true });
  writeFileSync(join(started.folder, "mine"), "");
  await t.throwsAsync(started.execution.savepoint(started.folder, false), { message: /there is .*mine already/ });
  t.deepEqual(readdirSync(started.folder), ["mine"]);
  const none = await running(t, { checkpointing_interval: -1 });
  await t.throwsAsync(none.execution.savepoint(none.folder, false), { message: /--checkpointing_interval/ });
});

test("without a folder a savepoint goes beside the job's checkpoints, where that lasts", (t) => {
  const run = runOf(diamond(), { checkpointing_interval: 1_000 });
  const inStore = runOf(diamond(), { checkpointing_interval: 1_000, state_backend_storage_path: "s3://bucket/all" });
  t.regex(defaultSavepointPath(inStore, "/data/savepoints"), /^s3:\/\/bucket\/all\/savepoints\/job-1-/);
  t.regex(defaultSavepointPath(run, "/data/savepoints"), /^\/data\/savepoints\/job-1-/);
  t.throws(() => defaultSavepointPath(run, undefined), { message: /is temporary.*--data-dir/s });
});
