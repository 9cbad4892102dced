/** A job server for tests, on free ports, whose jobs go as the test says, and a client of it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type * as grpc from "@grpc/grpc-js";
import type { ExecutionContext } from "ava";
import {
  type JobMessagesResponse,
  JobServiceDefinition,
  JobState_Enum,
  type PrepareJobResponse,
  type RunJobResponse,
} from "../../proto/gen/beam_job_api.ts";
import type { Pipeline } from "../../proto/gen/beam_runner_api.ts";
import { SmallPipeline } from "../pipelines/small-pipeline.ts";
import { systemClock } from "../../runner/base/clock.ts";
import { fromStatus, type GenericService, openClient, unaryCall } from "../../runner/base/grpc.ts";
import { serverLimits } from "../../runner/base/limits.ts";
import { silentLog } from "../../runner/base/log.ts";
import { buildExecutionGraph } from "../../runner/graph/build-execution-graph.ts";
import type { JobExecutor, JobObserver, JobOutcome, JobRun } from "../../runner/job-server/job-executor.ts";
import { JobServer } from "../../runner/job-server/job-server.ts";
import type { SavepointResult } from "../../runner/job-server/savepoints.ts";

/** Runs nothing: the test says how each job goes. */
class ScriptedExecutor implements JobExecutor {
  readonly started: { run: JobRun; observer: JobObserver; end: (outcome: JobOutcome) => void }[] = [];

  execute(run: JobRun, observer: JobObserver): Promise<JobOutcome> {
    const { promise, resolve } = Promise.withResolvers<JobOutcome>();
    this.started.push({ run, observer, end: resolve });
    observer.running();
    return promise;
  }

  async cancel(jobId: string): Promise<void> {
    this.started.find(({ run }) => run.jobId === jobId)?.end({ kind: "cancelled" });
  }

  suspend(jobId: string): boolean {
    const job = this.started.find(({ run }) => run.jobId === jobId);
    const goesOn = job?.run.settings.checkpoints !== undefined;
    if (goesOn) job?.end({ kind: "suspended" });
    return goesOn;
  }

  drain(jobId: string): boolean {
    const job = this.started.find(({ run }) => run.jobId === jobId);
    return job?.run.settings.streaming === true;
  }

  /** Savepoints that were asked for. */
  readonly savepoints: { readonly jobId: string; readonly path: string | undefined; readonly stop: boolean }[] = [];

  async savepoint(jobId: string, path: string | undefined, stop: boolean): Promise<SavepointResult> {
    this.savepoints.push({ jobId, path, stop });
    if (stop) this.started.find(({ run }) => run.jobId === jobId)?.end({ kind: "done" });
    return { path: path ?? "/chosen", checkpointId: 7, byteLength: 70 };
  }

  progress(): undefined {
    return undefined;
  }

  async close(): Promise<void> {
    for (const { end } of this.started) end({ kind: "cancelled" });
  }
}

type Client = grpc.Client & Record<string, unknown>;

interface Fixture {
  readonly server: JobServer;
  readonly executor: ScriptedExecutor;
  readonly client: Client;
  readonly directory: string;
}

export async function openServer(
  t: ExecutionContext,
  directory = newDirectory(t),
  jobPort = 0,
  recoverFrom?: string,
): Promise<Fixture> {
  const executor = new ScriptedExecutor();
  const server = await JobServer.open({
    host: "localhost",
    jobPort,
    artifactPort: 0,
    artifactsDirectory: join(directory, "artifacts"),
    dataDirectory: join(directory, "data"),
    recoverFrom,
    historySize: 3,
    cleanArtifactsPerJob: true,
    onShutdown: "suspend",
    limits: serverLimits(),
    buildGraph: (bytes) => buildExecutionGraph(bytes),
    openExecutor: () => ({ executor, services: [] }),
    clock: systemClock,
    log: silentLog(),
  });
  const client = openClient(JobServiceDefinition as unknown as GenericService, server.jobAddress);
  t.teardown(async () => {
    client.close();
    await server.close();
  });
  return { server, executor, client, directory };
}

export function newDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), "weir-job-server-test-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function somePipeline(): Pipeline {
  const small = new SmallPipeline();
  small.parDo("parDo", small.impulse("impulse"));
  return small.pipeline;
}

export function prepare(client: Client, pipelineOptions: Record<string, unknown> = {}): Promise<PrepareJobResponse> {
  return unaryCall(client, "prepare", { pipeline: somePipeline(), pipelineOptions, jobName: "job" });
}

export async function submit(client: Client, options?: Record<string, unknown>): Promise<string> {
  const { preparationId } = await prepare(client, options);
  return (await unaryCall<object, RunJobResponse>(client, "run", { preparationId })).jobId;
}

/** All that a stream says until the server ends it. */
export function collect<Message>(client: Client, method: string, jobId: string): Promise<Message[]> {
  const open = client[method] as (request: { jobId: string }) => grpc.ClientReadableStream<Message>;
  const stream = open.call(client, { jobId });
  const messages: Message[] = [];
  return new Promise((resolve, reject) => {
    stream.on("data", (message: Message) => messages.push(message));
    stream.once("error", (failure: grpc.ServiceError) => reject(fromStatus(failure)));
    stream.once("end", () => resolve(messages));
  });
}

export function texts(messages: readonly JobMessagesResponse[]): string[] {
  return messages.map(({ response }) => {
    if (response?.$case === "stateResponse") return stateName(response.value.state);
    return `${response?.value.importance}: ${response?.value.messageText}`;
  });
}

export function stateName(wire: JobState_Enum): string {
  return Object.entries(JobState_Enum).find(([, number]) => number === wire)?.[0] ?? "?";
}
