import { createServer } from "node:net";
import test from "ava";
import {
  type DrainJobResponse,
  type GetJobMetricsResponse,
  type GetJobPipelineResponse,
  type GetJobsResponse,
  JobMessage_MessageImportance,
  type JobMessagesResponse,
  JobServiceDefinition,
  JobState_Enum,
  type JobStateEvent,
  type RunJobResponse,
} from "../../proto/gen/beam_job_api.ts";
import { Pipeline } from "../../proto/gen/beam_runner_api.ts";
import { MonitoringInfo } from "../../proto/gen/metrics.ts";
import { WeirError } from "../base/errors.ts";
import { type GenericService, openClient, unaryCall } from "../base/grpc.ts";
import {
  collect,
  newDirectory,
  openServer,
  prepare,
  somePipeline,
  stateName,
  submit,
  texts,
} from "../../test/support/job-server-fixture.ts";

function hasCode(code: string) {
  return (thrown: unknown) => thrown instanceof WeirError && thrown.code === code;
}

test("a job goes from STOPPED to DONE and its streams tell it, to early and to late subscribers alike", async (t) => {
  const { client, executor } = await openServer(t);
  const jobId = await submit(client);
  const early = collect<JobMessagesResponse>(client, "getMessageStream", jobId);
  const earlyStates = collect<JobStateEvent>(client, "getStateStream", jobId);
  executor.started[0]?.observer.message("BASIC", "half way");
  executor.started[0]?.end({ kind: "done" });
  const expected = [
    "STOPPED",
    "STARTING",
    "RUNNING",
    `${JobMessage_MessageImportance.JOB_MESSAGE_BASIC}: half way`,
    "DONE",
  ];
  t.deepEqual(texts(await early), expected);
  t.deepEqual(texts(await collect<JobMessagesResponse>(client, "getMessageStream", jobId)), expected);
  t.deepEqual(
    (await earlyStates).map(({ state }) => stateName(state)),
    ["STOPPED", "STARTING", "RUNNING", "DONE"],
  );
  t.is((await unaryCall<object, JobStateEvent>(client, "getState", { jobId })).state, JobState_Enum.DONE);
});

test("both streams answer NOT_FOUND at once for a preparation id, and the job has another id", async (t) => {
  const { client } = await openServer(t);
  const { preparationId } = await prepare(client);
  for (const method of ["getStateStream", "getMessageStream"])
    await t.throwsAsync(collect(client, method, preparationId), { message: /preparation id/ });
  const { jobId } = await unaryCall<object, RunJobResponse>(client, "run", { preparationId });
  t.not(jobId, preparationId);
});

test("a preparation runs once", async (t) => {
  const { client } = await openServer(t);
  const { preparationId } = await prepare(client);
  const { jobId } = await unaryCall<object, RunJobResponse>(client, "run", { preparationId });
  const failure = await t.throwsAsync(unaryCall(client, "run", { preparationId }));
  t.true(hasCode("FAILED_PRECONDITION")(failure));
  t.true(failure?.message.includes(jobId));
});

test("unknown ids are NOT_FOUND everywhere", async (t) => {
  const { client } = await openServer(t);
  for (const method of ["getState", "getPipeline", "cancel", "drain", "getJobMetrics"]) {
    const failure = await t.throwsAsync(unaryCall(client, method, { jobId: "nonsense" }), undefined, method);
    t.true(hasCode("NOT_FOUND")(failure), method);
  }
  t.true(hasCode("NOT_FOUND")(await t.throwsAsync(unaryCall(client, "run", { preparationId: "nonsense" }))));
  t.true(hasCode("NOT_FOUND")(await t.throwsAsync(collect(client, "getMessageStream", "nonsense"))));
});

test("a failed job says why in an ERROR message right before FAILED", async (t) => {
  const { client, executor } = await openServer(t);
  const jobId = await submit(client);
  const traceback = "Traceback (most recent call last):\n  …\nValueError: no such luck";
  executor.started[0]?.end({ kind: "failed", message: traceback });
  const messages = texts(await collect<JobMessagesResponse>(client, "getMessageStream", jobId));
  t.deepEqual(messages.slice(-2), [`${JobMessage_MessageImportance.JOB_MESSAGE_ERROR}: ${traceback}`, "FAILED"]);
});

test("cancelling ends a job as CANCELLED, and cancelling it again tells so", async (t) => {
  const { client } = await openServer(t);
  const jobId = await submit(client);
  const all = collect<JobMessagesResponse>(client, "getMessageStream", jobId);
  const { state } = await unaryCall<object, JobStateEvent>(client, "cancel", { jobId });
  t.is(state, JobState_Enum.CANCELLING);
  t.deepEqual(
    texts(await all).filter((text) => text.startsWith("CANCEL")),
    ["CANCELLING", "CANCELLED"],
  );
  t.is((await unaryCall<object, JobStateEvent>(client, "cancel", { jobId })).state, JobState_Enum.CANCELLED);
});

test("bytes that are no pipeline are refused at Prepare, and the server goes on", async (t) => {
  const { client } = await openServer(t);
  const raw = openClient(
    JobServiceDefinition as unknown as GenericService,
    (client.getChannel().getTarget() as string).replace(/^dns:/, ""),
    new Set(["prepare"]),
  );
  t.teardown(() => raw.close());
  // PrepareJobRequest.pipeline = 7 bytes of garbage.
  const garbage = Buffer.from([10, 7, 255, 255, 255, 255, 255, 255, 255]);
  t.true(hasCode("INVALID_ARGUMENT")(await t.throwsAsync(unaryCall(raw, "prepare", garbage))));
  t.true(hasCode("INVALID_ARGUMENT")(await t.throwsAsync(unaryCall(raw, "prepare", Buffer.from([255])))));
  t.true(hasCode("INVALID_ARGUMENT")(await t.throwsAsync(unaryCall(raw, "prepare", Buffer.alloc(0)))));
  t.truthy((await prepare(client)).preparationId);
});

test("an option of the wrong type is refused with its name", async (t) => {
  const { client } = await openServer(t);
  const failure = await t.throwsAsync(prepare(client, { "beam:option:parallelism:v1": "many" }));
  t.true(hasCode("INVALID_ARGUMENT")(failure));
  t.regex(failure?.message ?? "", /--parallelism .*"many"/);
});

test("an option without effect is told in a warning, one at its default is not", async (t) => {
  const { client, executor } = await openServer(t);
  const jobId = await submit(client, {
    "beam:option:report_checkpoint_duration:v1": "somewhere",
    "beam:option:num_concurrent_checkpoints:v1": "1",
    "beam:option:parallelism:v1": "2",
  });
  executor.started[0]?.end({ kind: "done" });
  const warnings = texts(await collect<JobMessagesResponse>(client, "getMessageStream", jobId)).filter((text) =>
    text.startsWith(`${JobMessage_MessageImportance.JOB_MESSAGE_WARNING}`),
  );
  t.is(warnings.length, 1);
  t.regex(warnings[0] ?? "", /--report_checkpoint_duration.*somewhere/);
  t.is(executor.started[0]?.run.settings.parallelism, 2);
});

test("a streaming job is drained through DRAINING to DRAINED, a bounded one is not", async (t) => {
  const { client, executor } = await openServer(t);
  const jobId = await submit(client, { "beam:option:streaming:v1": true });
  const { state } = await unaryCall<object, DrainJobResponse>(client, "drain", { jobId });
  t.is(stateName(state), "DRAINING");
  executor.started[0]?.end({ kind: "drained" });
  const history = texts(await collect<JobMessagesResponse>(client, "getMessageStream", jobId));
  t.deepEqual(
    history.filter((text) => !text.includes(":")),
    ["STOPPED", "STARTING", "RUNNING", "DRAINING", "DRAINED"],
  );
  const again = await unaryCall<object, DrainJobResponse>(client, "drain", { jobId });
  t.is(stateName(again.state), "DRAINED");
  const bounded = await submit(client);
  const failure = await t.throwsAsync(unaryCall(client, "drain", { jobId: bounded }));
  t.true(hasCode("FAILED_PRECONDITION")(failure));
});

test("checkpoints that cannot be stored where they are wanted are refused when the job is prepared", async (t) => {
  const { client } = await openServer(t);
  const options = { "beam:option:checkpointing_interval:v1": "1000" };
  const to = (path: string) => prepare(client, { ...options, "beam:option:state_backend_storage_path:v1": path });
  const failure = await t.throwsAsync(to("ftp://host/x"));
  t.regex(failure?.message ?? "", /--state_backend_storage_path.*ftp:/);
  await t.throwsAsync(to("relative/path"), { message: /absolute/ });
  await t.throwsAsync(to("s3:///x"), { message: /bucket/ });
  await t.notThrowsAsync(to("s3://bucket/x"));
  await t.throwsAsync(to("gs://"), { message: /bucket/ });
  await t.notThrowsAsync(to("gs://bucket/x"));
  await t.throwsAsync(to("hdfs:///x"), { message: /--state_backend_storage_path.*NameNode.*HADOOP_CONF_DIR/ });
  await t.notThrowsAsync(to("hdfs://namenode:8020/x"));
  await t.notThrowsAsync(to("file:///tmp/x"));
});

test("a pipeline of 20 MB is taken and given back, with what a newer SDK put into it", async (t) => {
  const { client } = await openServer(t);
  const pipeline = somePipeline();
  pipeline.components!.environments["env"]!.payload = new Uint8Array(20 * 1024 * 1024);
  const raw = new Set(["getPipeline", "prepare"]);
  const bytesClient = openClient(
    JobServiceDefinition as unknown as GenericService,
    (client.getChannel().getTarget() as string).replace(/^dns:/, ""),
    raw,
  );
  t.teardown(() => bytesClient.close());
  // Field 4000 of Pipeline, unknown to our generated code.
  const bytes = Buffer.concat([Pipeline.encode(pipeline).finish(), Buffer.from([0x82, 0xfa, 0x01, 3, 1, 2, 3])]);
  const length: number[] = [];
  for (let rest = bytes.byteLength; rest > 0; rest >>>= 7) length.push((rest & 127) | (rest > 127 ? 128 : 0));
  const response = await unaryCall<Buffer, Buffer>(
    bytesClient,
    "prepare",
    Buffer.concat([Buffer.from([10, ...length]), bytes]),
  );
  const preparationId = response.subarray(2, 2 + (response[1] ?? 0)).toString();
  const { jobId } = await unaryCall<object, RunJobResponse>(client, "run", { preparationId });
  const request = Buffer.concat([Buffer.from([10, jobId.length]), Buffer.from(jobId)]);
  const returned = await unaryCall<Buffer, Buffer>(bytesClient, "getPipeline", request);
  t.true(returned.subarray(-bytes.byteLength).equals(bytes));
});

const info = MonitoringInfo.encode(MonitoringInfo.fromPartial({ urn: "beam:metric:user:sum_int64:v1" })).finish();

test("a restarted server answers for earlier jobs", async (t) => {
  const directory = newDirectory(t);
  const first = await openServer(t, directory);
  const doneId = await submit(first.client, { "beam:option:job_name:v1": "wordcount" });
  first.executor.started[0]?.observer.metrics([info], [info]);
  first.executor.started[0]?.observer.message("BASIC", "hello");
  first.executor.started[0]?.end({ kind: "done" });
  await collect(first.client, "getStateStream", doneId);
  await first.server.close();

  const { client } = await openServer(t, directory);
  const { jobInfo } = await unaryCall<object, GetJobsResponse>(client, "getJobs", {});
  t.deepEqual(
    jobInfo.map(({ jobId, jobName, state }) => [jobId, jobName, stateName(state)]),
    [[doneId, "wordcount", "DONE"]],
  );
  const history = texts(await collect<JobMessagesResponse>(client, "getMessageStream", doneId));
  t.deepEqual(history, ["STOPPED", "STARTING", "RUNNING", "3: hello", "DONE"]);
  const { metrics } = await unaryCall<object, GetJobMetricsResponse>(client, "getJobMetrics", { jobId: doneId });
  t.deepEqual([metrics?.attempted.length, metrics?.committed[0]?.urn], [1, "beam:metric:user:sum_int64:v1"]);
  const { pipeline } = await unaryCall<object, GetJobPipelineResponse>(client, "getPipeline", { jobId: doneId });
  t.deepEqual(Object.keys(pipeline?.components?.transforms ?? {}).sort(), ["impulse", "parDo"]);
});

test("only the newest finished jobs are kept", async (t) => {
  const { client, executor } = await openServer(t);
  const ids: string[] = [];
  for (let index = 0; index < 5; index++) {
    const jobId = await submit(client);
    ids.push(jobId);
    executor.started[index]?.end({ kind: "done" });
    await collect(client, "getStateStream", jobId);
  }
  const { jobInfo } = await unaryCall<object, GetJobsResponse>(client, "getJobs", {});
  t.deepEqual(
    jobInfo.map(({ jobId }) => jobId),
    ids.slice(2),
  );
});

test("a port in use, and a data directory in use, are named", async (t) => {
  const { directory } = await openServer(t);
  await t.throwsAsync(openServer(t, directory), { message: /in use by another Weir server.*--data-dir/ });
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(0, "127.0.0.1", resolve));
  t.teardown(() => blocker.close());
  const { port } = blocker.address() as { port: number };
  await t.throwsAsync(openServer(t, newDirectory(t), port), {
    message: new RegExp(`Port ${port} is in use.*--job-port`),
  });
});

test("a server that ends ends its jobs, and their clients hear it", async (t) => {
  const { server, client } = await openServer(t);
  const jobId = await submit(client);
  const stream = collect<JobMessagesResponse>(client, "getMessageStream", jobId);
  await unaryCall(client, "getState", { jobId });
  await server.close();
  t.is(texts(await stream).at(-1), "CANCELLED");
});
