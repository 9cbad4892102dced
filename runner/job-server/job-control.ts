/** The JobControl service: what the command line asks a job server to do beyond the Job API. */
import type * as grpc from "@grpc/grpc-js";
import { JobControlDefinition, type SavepointRequest, type SavepointResponse } from "../../proto/gen/control.ts";
import { type GenericService, type ServedService, unaryHandler } from "../base/grpc.ts";
import type { JobId } from "../base/ids.ts";
import type { JobRegistry } from "./job-registry.ts";

export function jobControl(jobs: Pick<JobRegistry, "savepoint">): ServedService {
  return {
    service: JobControlDefinition as unknown as GenericService,
    handlers: {
      savepoint: unaryHandler<SavepointRequest, SavepointResponse>(async (request) => {
        const result = await jobs.savepoint(request.jobId as JobId, request.path, request.stop);
        return {
          path: result.path,
          checkpointId: BigInt(result.checkpointId),
          byteLength: BigInt(result.byteLength),
        };
      }),
    } as unknown as grpc.UntypedServiceImplementation,
  };
}
