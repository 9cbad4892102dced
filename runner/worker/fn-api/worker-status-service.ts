/**
 * The worker status service of the Fn API: asks a harness what it is doing. The answer is text for people, in Python
 * the stack of every thread, the active bundles and the caches; it says why a bundle does not end.
 *
 * Harnesses of LOOPBACK and of worker pools do not connect here.
 */
import type * as grpc from "@grpc/grpc-js";
import {
  BeamFnWorkerStatusDefinition,
  type WorkerStatusRequest,
  type WorkerStatusResponse,
} from "../../../proto/gen/beam_fn_api.ts";
import type { Clock } from "../../base/clock.ts";
import { WeirError } from "../../base/errors.ts";
import type { GenericService, ServedService } from "../../base/grpc.ts";
import type { HarnessId } from "../../base/ids.ts";

export interface WorkerStatusService {
  readonly served: ServedService;
  /** True when the harness has a status stream, so that `requestStatus` can be answered. */
  has(harnessId: HarnessId): boolean;
  /**
   * The harness's own report.
   * @throws WeirError NOT_FOUND without a status stream, DEADLINE_EXCEEDED without an answer in time, UNAVAILABLE when
   * the stream ends first.
   */
  requestStatus(harnessId: HarnessId, timeoutMs: number): Promise<string>;
}

interface StatusStream {
  readonly call: grpc.ServerDuplexStream<WorkerStatusResponse, WorkerStatusRequest>;
  readonly waiting: Map<string, { resolve(status: string): void; reject(error: WeirError): void }>;
}

export function workerStatusService(init: { readonly clock: Clock }): WorkerStatusService {
  const streams = new Map<HarnessId, StatusStream>();
  let requestCount = 0;

  const workerStatus: grpc.handleBidiStreamingCall<WorkerStatusResponse, WorkerStatusRequest> = (call) => {
    const harnessId = (call.metadata.get("worker_id")[0] ?? "").toString() as HarnessId;
    const stream: StatusStream = { call, waiting: new Map() };
    const end = () => {
      if (streams.get(harnessId) === stream) streams.delete(harnessId);
      for (const waiter of stream.waiting.values()) waiter.reject(statusError("UNAVAILABLE", harnessId, "has gone"));
      stream.waiting.clear();
    };
    streams.set(harnessId, stream);
    call.on("data", (response: WorkerStatusResponse) => {
      const waiter = stream.waiting.get(response.id);
      if (response.error === "") waiter?.resolve(response.statusInfo);
      else waiter?.reject(statusError("INTERNAL", harnessId, `could not tell its status: ${response.error}`));
    });
    call.on("end", () => {
      end();
      call.end();
    });
    call.on("cancelled", end);
    call.on("close", end);
    call.on("error", end);
  };

  return {
    served: {
      service: BeamFnWorkerStatusDefinition as unknown as GenericService,
      handlers: { workerStatus } as unknown as grpc.UntypedServiceImplementation,
    },
    has: (harnessId) => streams.has(harnessId),
    requestStatus: async (harnessId, timeoutMs) => {
      const stream = streams.get(harnessId);
      if (stream === undefined) throw statusError("NOT_FOUND", harnessId, "has no status stream");
      const id = `status-${++requestCount}`;
      const answer = Promise.withResolvers<string>();
      const timer = new AbortController();
      stream.waiting.set(id, answer);
      init.clock.sleep(timeoutMs, timer.signal).then(
        () => answer.reject(statusError("DEADLINE_EXCEEDED", harnessId, `did not answer within ${timeoutMs} ms`)),
        () => undefined,
      );
      try {
        stream.call.write({ id });
        return await answer.promise;
      } finally {
        timer.abort();
        stream.waiting.delete(id);
      }
    },
  };
}

function statusError(
  code: "NOT_FOUND" | "DEADLINE_EXCEEDED" | "UNAVAILABLE" | "INTERNAL",
  harnessId: HarnessId,
  what: string,
): WeirError {
  return new WeirError({ code, domain: "external", message: `SDK harness ${harnessId} ${what}.`, ids: { harnessId } });
}
