import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { silentLog } from "../base/log.ts";
import { encodeManifest } from "../checkpoint/snapshot-manifest.ts";
import { channelFingerprintOf, fingerprintOf } from "../graph/plan-fingerprints.ts";
import { openSavepoint, pipelineFacts } from "./open-savepoint.ts";
import { savepointPoint } from "./restore-points.ts";
import { Scheduler } from "./scheduler.ts";
import { streamingParallelism } from "./streaming-plan.ts";
import { diamond, FakeWorkers, ManualClock, RecordingObserver, runOf, settle } from "./streaming-fixture.ts";

/** A retained checkpoint of a job of the same pipeline that ran at parallelism 2, with 16 key groups. */
function snapshot(t: ExecutionContext) {
  const folder = mkdtempSync(join(tmpdir(), "weir-savepoint-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const graph = diamond();
  const tasks = graph.vertices.flatMap(({ id }) =>
    (id === "a" ? [0] : [0, 1]).map((subtaskIndex) => {
      const name = `${id}.${subtaskIndex}`;
      writeFileSync(join(folder, name), "abc");
      const files = [{ path: name, byteLength: 3, sha256: "00" }];
      return { vertexId: id as string, subtaskIndex, parallelism: id === "a" ? 1 : 2, files };
    }),
  );
  const manifest = {
    jobId: "former",
    jobName: "former",
    checkpointId: 7,
    executionAttempt: 4,
    graphFingerprint: "ab",
    maxParallelism: 16,
    triggeredMs: 1,
    completedMs: 2,
    tasks,
    ...pipelineFacts(graph),
  };
  writeFileSync(join(folder, "checkpoint-7.json"), encodeManifest(manifest));
  return { folder, graph, manifest };
}

function schedule(t: ExecutionContext, options: Record<string, unknown>) {
  const workers = new FakeWorkers("w0", "w1");
  const observer = new RecordingObserver();
  const clock = new ManualClock();
  const checkpointDirectory = mkdtempSync(join(tmpdir(), "weir-savepoint-job-"));
  t.teardown(() => rmSync(checkpointDirectory, { recursive: true, force: true }));
  const init = { registry: workers, workerWaitMs: 60_000, checkpointDirectory, clock, log: silentLog() };
  const scheduler = new Scheduler(init as unknown as ConstructorParameters<typeof Scheduler>[0]);
  const run = runOf(diamond(), { streaming: true, ...options });
  return { workers, observer, scheduler, outcome: scheduler.execute(run, observer), run };
}

test("a new job takes its tasks' parts of a savepoint at another parallelism, and the savepoint's key groups", async (t) => {
  const { folder } = snapshot(t);
  const { workers, scheduler, outcome, run } = schedule(t, {
    savepoint_path: folder,
    parallelism: 3,
    max_parallelism: 64,
  });
  const [first, second] = workers.workers;
  for (let turn = 0; turn < 20_000 && second?.all("deployStreamTasks").length !== 1; turn++) await settle();
  const deployed = workers.workers.flatMap((worker) => worker.all("deployStreamTasks").flatMap(({ tasks }) => tasks));
  t.is(first?.all("openJob")[0]?.maxParallelism, 16);
  // Ids of rows contain the attempt: the former job's must not come again.
  t.is(first?.all("deployStreamTasks")[0]?.executionAttempt, 5);
  const parts = deployed
    .filter(({ vertexId }) => vertexId === "b")
    .map(({ subtaskIndex, restore, formerParallelism, former }) => ({
      subtaskIndex,
      restore,
      formerParallelism,
      ranges: former.map((part) => `${part.firstKeyGroup}-${part.endKeyGroup} ${part.files[0]?.path}`),
    }))
    .sort((left, right) => left.subtaskIndex - right.subtaskIndex);
  t.deepEqual(parts, [
    { subtaskIndex: 0, restore: [], formerParallelism: 2, ranges: [`0-6 ${folder}/b.0`, `8-8 ${folder}/b.1`] },
    { subtaskIndex: 1, restore: [], formerParallelism: 2, ranges: [`6-8 ${folder}/b.0`, `8-11 ${folder}/b.1`] },
    { subtaskIndex: 2, restore: [], formerParallelism: 2, ranges: [`11-11 ${folder}/b.0`, `11-16 ${folder}/b.1`] },
  ]);
  const cancelled = scheduler.cancel(run.jobId);
  for (const worker of workers.workers)
    workers.hear(worker, { $case: "jobReleased", value: { jobId: run.jobId } } as Parameters<typeof workers.hear>[1]);
  await cancelled;
  t.is((await outcome).kind, "cancelled");
});

test("an unaligned checkpoint is for the very same pipeline", async (t) => {
  const { folder, graph, manifest } = snapshot(t);
  const path = join(folder, "checkpoint-8.json");
  const inFlight = (fingerprints: { graphFingerprint: string; channelFingerprint?: string }) => {
    const [first, ...others] = manifest.tasks;
    const files = [...(first?.files ?? []), { path: "b.0", byteLength: 3, sha256: "00", inFlight: true }];
    const tasks = first === undefined ? [] : [{ ...first, files }, ...others];
    writeFileSync(path, encodeManifest({ ...manifest, checkpointId: 8, ...fingerprints, tasks }));
  };
  inFlight({ graphFingerprint: "ab", channelFingerprint: "cd" });
  await t.throwsAsync(openSavepoint(path, graph, false), { message: /unaligned checkpoint of another pipeline/ });
  inFlight({ graphFingerprint: "ab", channelFingerprint: channelFingerprintOf(graph) });
  await t.notThrowsAsync(openSavepoint(path, graph, false));
  inFlight({ graphFingerprint: fingerprintOf(graph) });
  const { settings } = runOf(graph);
  const parallelismAt = async (location: string) =>
    streamingParallelism(graph, settings, 9, savepointPoint(await openSavepoint(location, graph, false)).boundTo);
  t.is(await parallelismAt(path), 2);
  t.is(await parallelismAt(folder.concat("/checkpoint-7.json")), 9);
});

test("a path without a snapshot, and a snapshot with a damaged file, fail the job at once and by name", async (t) => {
  const { folder, graph } = snapshot(t);
  const nowhere = await schedule(t, { savepoint_path: join(folder, "nowhere") }).outcome;
  t.regex(nowhere.kind === "failed" ? nowhere.message : "", /nowhere/);
  truncateSync(join(folder, "c.1"), 1);
  await t.throwsAsync(openSavepoint(folder, graph, false), { message: /c\.1 has 1 bytes, not 3/ });
  await t.throwsAsync(openSavepoint(join(folder, "checkpoint-7.json"), graph, false), { message: /c\.1/ });
});
