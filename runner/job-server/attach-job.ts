/**
 * The client side of the Job API for the command line: waits for a job again, lists jobs, explains, cancels or drains one.
 */
import type * as grpc from "@grpc/grpc-js";
import {
  type CancelJobResponse,
  type DrainJobResponse,
  type GetJobPipelineResponse,
  type GetJobsResponse,
  JobMessage_MessageImportance,
  type JobMessagesResponse,
  JobServiceDefinition,
  JobState_Enum,
} from "../../proto/gen/beam_job_api.ts";
import { Pipeline } from "../../proto/gen/beam_runner_api.ts";
import { type ExplainRequest, type ExplainResponse, JobInspectionDefinition } from "../../proto/gen/inspection.ts";
import { WeirError } from "../base/errors.ts";
import { type GenericService, fromStatus, openClient, unaryCall } from "../base/grpc.ts";
import { messageImportance } from "./job-executor.ts";
import type { JobExplanation } from "./job-explanation.ts";

export type JobClient = grpc.Client & Record<string, unknown>;

/** A client of the job server at `endpoint`; the caller closes it. */
export function openJobClient(endpoint: string): JobClient {
  return openClient(JobServiceDefinition as unknown as GenericService, endpoint);
}

/** Why a stream ended without a terminal state, in the words of `attachJob`. */
export type AttachedState = keyof typeof JobState_Enum | "UNKNOWN";

/**
 * Prints what has happened to the job, then follows it to its end.
 * @param print takes one line, or a text of several, for people.
 * @returns its terminal state.
 * @throws WeirError NOT_FOUND for an unknown job, UNAVAILABLE when the server is gone.
 */
export function attachJob(client: JobClient, jobId: string, print: (line: string) => void): Promise<AttachedState> {
  const open = client["getMessageStream"] as (request: {
    jobId: string;
  }) => grpc.ClientReadableStream<JobMessagesResponse>;
  const stream = open.call(client, { jobId });
  let state: AttachedState = "UNKNOWN";
  return new Promise((resolve, reject) => {
    stream.on("data", ({ response }: JobMessagesResponse) => {
      if (response?.$case === "stateResponse") {
        state = stateName(response.value.state);
        print(`${jobId} ${state}`);
      } else if (response !== undefined) {
        const { time, importance, messageText } = response.value;
        const mark = importance >= JobMessage_MessageImportance.JOB_MESSAGE_WARNING;
        print(`${time} ${mark ? `${messageImportance(importance)} ` : ""}${messageText}`);
      }
    });
    stream.once("error", (failure: grpc.ServiceError) => reject(fromStatus(failure)));
    stream.once("end", () => resolve(state));
  });
}

/** A failed call's error, which says where there was no server. */
export function explainUnavailable(thrown: unknown, endpoint: string): WeirError {
  const error = WeirError.from(thrown);
  if (error.code !== "UNAVAILABLE") return error;
  return new WeirError({
    code: "UNAVAILABLE",
    domain: "external",
    message: `No job server answers at ${endpoint}: ${error.message}`,
    hint: "Start one with `weir serve`, or name another with --job-endpoint.",
    cause: thrown,
  });
}

/** One line for each job that the server knows, oldest first. */
export async function listJobs(client: JobClient): Promise<string[]> {
  const { jobInfo } = await unaryCall<object, GetJobsResponse>(client, "getJobs", {});
  return jobInfo.map(({ jobId, jobName, state }) => `${stateName(state).padEnd(10)} ${jobId} ${jobName}`);
}

/** Asks for the job's end. @returns its state. */
export async function cancelJob(client: JobClient, jobId: string): Promise<AttachedState> {
  const { state } = await unaryCall<object, CancelJobResponse>(client, "cancel", { jobId });
  return stateName(state);
}

/** Asks the job's sources to end. @returns its state. @throws WeirError FAILED_PRECONDITION for one that cannot drain */
export async function drainJob(client: JobClient, jobId: string): Promise<AttachedState> {
  const { state } = await unaryCall<object, DrainJobResponse>(client, "drain", { jobId });
  return stateName(state);
}

/** The job's pipeline proto, encoded, as it was submitted. @throws WeirError NOT_FOUND */
export async function fetchPipeline(client: JobClient, jobId: string): Promise<Uint8Array> {
  const { pipeline } = await unaryCall<object, GetJobPipelineResponse>(client, "getPipeline", { jobId });
  return Pipeline.encode(pipeline ?? Pipeline.fromPartial({})).finish();
}

/** What the server knows of the job's stages and what holds them back. @throws WeirError NOT_FOUND for an unknown job */
export async function fetchExplanation(endpoint: string, jobId: string): Promise<JobExplanation> {
  const client = openClient(JobInspectionDefinition as unknown as GenericService, endpoint);
  try {
    const { json } = await unaryCall<ExplainRequest, ExplainResponse>(client, "explain", { jobId });
    return JSON.parse(json) as JobExplanation;
  } catch (thrown) {
    throw explainUnavailable(thrown, endpoint);
  } finally {
    client.close();
  }
}

function stateName(wire: JobState_Enum): AttachedState {
  const found = Object.entries(JobState_Enum).find(([, number]) => number === wire)?.[0];
  return (found as keyof typeof JobState_Enum | undefined) ?? "UNKNOWN";
}
