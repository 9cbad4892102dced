/**
 * The provision service of the Fn API: what a harness's boot command asks first, before any other endpoint. A harness
 * is known by the `worker_id` metadata of its call.
 */
import type * as grpc from "@grpc/grpc-js";
import {
  type GetProvisionInfoRequest,
  type GetProvisionInfoResponse,
  type ProvisionInfo,
  ProvisionServiceDefinition,
} from "../../../proto/gen/beam_provision_api.ts";
import { userError } from "../../base/errors.ts";
import { type GenericService, type ServedService, unaryHandler } from "../../base/grpc.ts";
import type { HarnessId } from "../../base/ids.ts";

export interface ProvisionServiceInit {
  /** Undefined for a harness that was not started here. */
  readonly infoFor: (harnessId: HarnessId) => ProvisionInfo | undefined;
}

export function provisionService(init: ProvisionServiceInit): ServedService {
  const getProvisionInfo = unaryHandler<GetProvisionInfoRequest, GetProvisionInfoResponse>((_request, call) => {
    const harnessId = call.metadata.get("worker_id")[0]?.toString();
    if (harnessId === undefined)
      throw userError(
        "INVALID_ARGUMENT",
        "The call to the provision service has no worker_id metadata.",
        "Boot commands send the value of their --id argument.",
      );
    const info = init.infoFor(harnessId as HarnessId);
    if (info === undefined)
      throw userError("NOT_FOUND", `No SDK harness with worker_id "${harnessId}" was started by this worker.`);
    return { info };
  });
  return {
    service: ProvisionServiceDefinition as unknown as GenericService,
    handlers: { getProvisionInfo } as unknown as grpc.UntypedServiceImplementation,
  };
}
