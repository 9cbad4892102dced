// A job server without the disk of the last one, and a job in its checkpoint storage.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import {
  type GetJobMetricsResponse,
  type GetJobPipelineResponse,
  type GetJobsResponse,
  type JobMessagesResponse,
} from "../../proto/gen/beam_job_api.ts";
import { MonitoringInfo } from "../../proto/gen/metrics.ts";
import {
  collect,
  newDirectory,
  openServer,
  somePipeline,
  submit,
  texts,
} from "../../test/support/job-server-fixture.ts";
import { systemClock } from "../base/clock.ts";
import { unaryCall } from "../base/grpc.ts";
import { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import type { JobRun } from "./job-executor.ts";

/** A job that has had a checkpoint in `storage`, under a server that is gone with its disk. */
async function lostJob(t: ExecutionContext, storage: string) {
  const directory = newDirectory(t);
  const first = await openServer(t, directory);
  const jobId = await submit(first.client, {
    "beam:option:streaming:v1": true,
    "beam:option:checkpointing_interval:v1": 1000,
    "beam:option:state_backend_storage_path:v1": storage,
    "beam:option:externalized_checkpoints_enabled:v1": true,
  });
  const { run, observer } = first.executor.started[0] ?? t.fail();
  const folder = join(storage, jobId);
  mkdirSync(folder, { recursive: true });
  observer.message("BASIC", "before");
  const info = MonitoringInfo.encode(MonitoringInfo.fromPartial({ urn: "counted" })).finish();
  observer.metrics([], [info]);
  const claimed = new CheckpointDirectory(folder);
  await claimed.claim(0, systemClock);
  await observer.keepCopy(claimed);
  observer.checkpointed();
  while (!readdirSync(folder).some((name) => name.startsWith("history-"))) await new Promise(setImmediate);
  return { first, jobId, run, observer, folder };
}

test("a job goes on from its checkpoint storage alone: same id, history, metrics, pipeline", async (t) => {
  const storage = newDirectory(t);
  const { first, jobId, run } = await lostJob(t, storage);
  await first.server.close();
  const { client, executor } = await openServer(t, newDirectory(t), 0, storage);
  const after = executor.started[0] ?? t.fail();
  t.is(after.run.retrievalToken, run.retrievalToken);
  t.deepEqual(after.run.settings, run.settings);
  t.deepEqual(after.run.takeUp, { count: 1, checkpointed: false, draining: false });
  const { metrics } = await unaryCall<object, GetJobMetricsResponse>(client, "getJobMetrics", { jobId });
  t.is(metrics?.committed[0]?.urn, "counted");
  const { pipeline } = await unaryCall<object, GetJobPipelineResponse>(client, "getPipeline", { jobId });
  t.deepEqual(
    Object.keys(pipeline?.components?.transforms ?? {}),
    Object.keys(somePipeline().components?.transforms ?? {}),
  );
  after.end({ kind: "done" });
  const lines = texts(await collect<JobMessagesResponse>(client, "getMessageStream", jobId));
  t.deepEqual(lines.slice(0, 4), ["STOPPED", "STARTING", "RUNNING", "3: before"]);
  t.is(lines.at(-1), "DONE");
});

test("a job that is over is not recovered, nor one that the server knows", async (t) => {
  const storage = newDirectory(t);
  const { first, folder } = await lostJob(t, storage);
  // Its checkpoints outlive it.
  first.executor.started[0]?.end({ kind: "failed", message: "user code" });
  await first.server.close();
  t.true(readdirSync(folder).includes("ended.json"));
  const second = await openServer(t, newDirectory(t), 0, storage);
  t.deepEqual(second.executor.started, []);
  const third = await openServer(t, first.directory, 0, storage);
  t.deepEqual(third.executor.started, []);
  const { jobInfo } = await unaryCall<object, GetJobsResponse>(third.client, "getJobs", {});
  t.is(jobInfo.length, 1);
});

test("a server that has lost a job to another one does not say that the job is over", async (t) => {
  const storage = newDirectory(t);
  const { first, jobId, folder } = await lostJob(t, storage);
  await new CheckpointDirectory(folder).claim(0, systemClock);
  first.executor.started[0]?.end({ kind: "failed", message: "another job server has the job" });
  await first.server.close();
  t.false(readdirSync(folder).includes("ended.json"));
  const { executor } = await openServer(t, newDirectory(t), 0, storage);
  t.is(String(executor.started[0]?.run.jobId), jobId);
});

test("one job can be recovered by its own folder, and a damaged one leaves the others alone", async (t) => {
  const storage = newDirectory(t);
  const damaged = await lostJob(t, storage);
  await damaged.first.server.close();
  const whole = await lostJob(t, storage);
  await whole.first.server.close();
  const path = join(damaged.folder, "submission.json");
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.subarray(0, bytes.length / 2));
  const ids = (started: readonly { readonly run: JobRun }[]) => started.map(({ run }) => run.jobId as string);
  const all = await openServer(t, newDirectory(t), 0, storage);
  t.deepEqual(ids(all.executor.started), [whole.jobId]);
  await all.server.close();
  const one = await openServer(t, newDirectory(t), 0, whole.folder);
  t.deepEqual(ids(one.executor.started), [whole.jobId]);
});
