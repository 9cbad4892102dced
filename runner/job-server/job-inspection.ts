/** The JobInspection service: what the command line asks beyond the Job API. */
import type * as grpc from "@grpc/grpc-js";
import { type ExplainRequest, type ExplainResponse, JobInspectionDefinition } from "../../proto/gen/inspection.ts";
import { type GenericService, type ServedService, unaryHandler } from "../base/grpc.ts";
import type { JobId } from "../base/ids.ts";
import { explainJob } from "./job-explanation.ts";
import type { JobRegistry } from "./job-registry.ts";

export function jobInspection(jobs: Pick<JobRegistry, "state" | "progress">): ServedService {
  return {
    service: JobInspectionDefinition as unknown as GenericService,
    handlers: {
      explain: unaryHandler<ExplainRequest, ExplainResponse>((request) => {
        const jobId = request.jobId as JobId;
        const { state } = jobs.state(jobId);
        return { json: JSON.stringify(explainJob(jobId, state, jobs.progress(jobId))) };
      }),
    } as unknown as grpc.UntypedServiceImplementation,
  };
}
