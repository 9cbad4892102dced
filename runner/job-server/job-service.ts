/**
 * beam_job_api.proto's JobService: messages to and from the job registry. Pipelines and metrics stay bytes here, so
 * that what a newer SDK put into them comes out again.
 *
 * The stock Python client opens both streams on the preparation id first, with a deadline of 300 s that would end
 * longer jobs: there they answer NOT_FOUND at once, and the client opens them on the job id, without a deadline.
 */
import { once } from "node:events";
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import type * as grpc from "@grpc/grpc-js";
import {
  type CancelJobRequest,
  type CancelJobResponse,
  type DescribePipelineOptionsRequest,
  type DescribePipelineOptionsResponse,
  type DrainJobRequest,
  type DrainJobResponse,
  GetJobMetricsRequest,
  GetJobPipelineRequest,
  type GetJobsRequest,
  type GetJobsResponse,
  type GetJobStateRequest,
  type JobMessagesRequest,
  type JobMessagesResponse,
  JobServiceDefinition,
  JobState_Enum,
  type JobStateEvent,
  PipelineOptionType_Enum,
  PrepareJobResponse,
  type RunJobRequest,
  type RunJobResponse,
} from "../../proto/gen/beam_job_api.ts";
import { Struct } from "../../proto/gen/google/protobuf/struct.ts";
import type { Timestamp } from "../../proto/gen/google/protobuf/timestamp.ts";
import { WeirError } from "../base/errors.ts";
import { asBuffer, type GenericService, type ServedService, toStatus, unaryHandler } from "../base/grpc.ts";
import type { JobId, PreparationId } from "../base/ids.ts";
import type { JobEvent } from "./job-event-log.ts";
import { importanceNumber } from "./job-executor.ts";
import type { JobRegistry, PrepareRequest } from "./job-registry.ts";
import { OPTION_TABLE } from "./option-table.ts";

/** Methods whose messages we read and write as bytes. */
const RAW_METHODS: ReadonlySet<string> = new Set(["prepare", "getPipeline", "getJobMetrics"]);

/** The service over `jobs`; `stagingAddress` is what Prepare tells clients. */
export function jobService(jobs: JobRegistry, stagingAddress: string): ServedService {
  return {
    service: JobServiceDefinition as unknown as GenericService,
    raw: RAW_METHODS,
    handlers: {
      prepare: unaryHandler<Buffer, Buffer>((bytes) => {
        const { preparationId, stagingToken } = jobs.prepare(readPrepareRequest(bytes));
        const response: PrepareJobResponse = {
          preparationId,
          artifactStagingEndpoint: { url: stagingAddress, authentication: undefined },
          stagingSessionToken: stagingToken,
        };
        return asBuffer(PrepareJobResponse.encode(response).finish());
      }),
      run: unaryHandler<RunJobRequest, RunJobResponse>(async (request) => ({
        jobId: await jobs.run(request.preparationId as PreparationId),
      })),
      getJobs: unaryHandler<GetJobsRequest, GetJobsResponse>(() => ({
        jobInfo: jobs.jobs().map(({ jobId, name, options, state }) => ({
          jobId,
          jobName: name,
          pipelineOptions: Struct.unwrap(Struct.decode(options)),
          state: JobState_Enum[state],
        })),
      })),
      getState: unaryHandler<GetJobStateRequest, JobStateEvent>((request) =>
        stateEvent(jobs.state(request.jobId as JobId)),
      ),
      getPipeline: unaryHandler<Buffer, Buffer>((bytes) => {
        const { jobId } = GetJobPipelineRequest.decode(bytes);
        return asBuffer(
          new BinaryWriter()
            .uint32(10)
            .bytes(jobs.pipeline(jobId as JobId))
            .finish(),
        );
      }),
      cancel: unaryHandler<CancelJobRequest, CancelJobResponse>((request) => ({
        state: JobState_Enum[jobs.cancel(request.jobId as JobId)],
      })),
      drain: unaryHandler<DrainJobRequest, DrainJobResponse>((request) => ({
        state: JobState_Enum[jobs.drain(request.jobId as JobId)],
      })),
      getStateStream: (call: grpc.ServerWritableStream<GetJobStateRequest, JobStateEvent>) =>
        streamEvents(jobs, call, (event) => (event.kind === "state" ? stateEvent(event) : undefined)),
      getMessageStream: (call: grpc.ServerWritableStream<JobMessagesRequest, JobMessagesResponse>) =>
        streamEvents(jobs, call, messagesResponse),
      getJobMetrics: unaryHandler<Buffer, Buffer>((bytes) =>
        asBuffer(jobs.metrics(GetJobMetricsRequest.decode(bytes).jobId as JobId)),
      ),
      describePipelineOptions: unaryHandler<DescribePipelineOptionsRequest, DescribePipelineOptionsResponse>(
        describePipelineOptions,
      ),
    } as unknown as grpc.UntypedServiceImplementation,
  };
}

/** PrepareJobRequest { pipeline = 1, pipeline_options = 2, job_name = 3 }, its messages left encoded. */
function readPrepareRequest(bytes: Uint8Array): PrepareRequest {
  try {
    const reader = new BinaryReader(bytes);
    let pipeline = new Uint8Array(0);
    let options = new Uint8Array(0);
    let jobName = "";
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag === 10) pipeline = copyOf(reader.bytes());
      else if (tag === 18) options = copyOf(reader.bytes());
      else if (tag === 26) jobName = reader.string();
      else reader.skip(tag & 7);
    }
    return { pipeline, options, jobName };
  } catch (cause) {
    const message = `The ${bytes.byteLength} bytes sent to Prepare are not a PrepareJobRequest.`;
    throw new WeirError({ code: "INVALID_ARGUMENT", domain: "user", message, cause });
  }
}

/** Kept beyond the call, so it must not hold on to the whole request. */
function copyOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}

function streamEvents<Request extends { jobId: string }, Response>(
  jobs: JobRegistry,
  call: grpc.ServerWritableStream<Request, Response>,
  toResponse: (event: JobEvent) => Response | undefined,
): void {
  const send = async () => {
    const abort = new AbortController();
    call.on("cancelled", () => abort.abort());
    call.on("error", () => undefined);
    for await (const batch of jobs.events(call.request.jobId as JobId).follow(abort.signal)) {
      for (const event of batch) {
        const response = toResponse(event);
        if (response !== undefined && !call.write(response)) await once(call, "drain", { signal: abort.signal });
      }
    }
  };
  send().then(
    () => call.end(),
    (thrown: unknown) => {
      if (!call.cancelled) call.emit("error", toStatus(thrown));
    },
  );
}

function messagesResponse(event: JobEvent): JobMessagesResponse {
  if (event.kind === "state") return { response: { $case: "stateResponse", value: stateEvent(event) } };
  return {
    response: {
      $case: "messageResponse",
      value: {
        messageId: String(event.sequence),
        time: new Date(event.timeMs).toISOString(),
        importance: importanceNumber(event.importance),
        messageText: event.text,
      },
    },
  };
}

function stateEvent(event: { readonly state: keyof typeof JobState_Enum; readonly timeMs: number }): JobStateEvent {
  return { state: JobState_Enum[event.state], timestamp: timestampOf(event.timeMs) };
}

function timestampOf(timeMs: number): Timestamp {
  const seconds = Math.floor(timeMs / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((timeMs - seconds * 1000) * 1e6) };
}

function describePipelineOptions(): DescribePipelineOptionsResponse {
  return {
    options: OPTION_TABLE.filter((option) => option.described).map(({ name, type, description, defaultValue }) => ({
      name,
      type: PipelineOptionType_Enum[type],
      description,
      defaultValue: defaultValue ?? "",
      group: "weir",
    })),
  };
}
