/**
 * EXTERNAL environments (beam:env:external:v1): a worker pool that somebody else runs is asked to start and stop the
 * harness, by the BeamFnExternalWorkerPool service. LOOPBACK is the same on the wire: there the pool is the client.
 *
 * A pool does not tell when a harness dies; its control stream does.
 */
import type * as grpc from "@grpc/grpc-js";
import {
  BeamFnExternalWorkerPoolDefinition,
  type StartWorkerRequest,
  type StartWorkerResponse,
  type StopWorkerRequest,
  type StopWorkerResponse,
} from "../../../proto/gen/beam_fn_api.ts";
import { ExternalPayload } from "../../../proto/gen/beam_runner_api.ts";
import { WeirError, userError } from "../../base/errors.ts";
import { type GenericService, fromStatus, openClient } from "../../base/grpc.ts";
import type { HarnessStart, StartedHarness } from "../task/ports.ts";

/** A pool starts a thread or a process and answers; Python's takes up to 10 s to stop one that does not listen. */
const START_DEADLINE_MS = 30_000;
const STOP_DEADLINE_MS = 15_000;

/**
 * Asks the pool to start the harness.
 * @throws WeirError UNAVAILABLE (with `retry`) when the pool does not answer, INTERNAL with its own text when it refuses.
 */
export async function startExternal(request: HarnessStart): Promise<StartedHarness> {
  const { endpoints, harnessId, signal } = request;
  const payload = ExternalPayload.decode(request.environment.payload);
  const address = payload.endpoint?.url ?? "";
  if (address === "")
    throw userError(
      "INVALID_ARGUMENT",
      "The EXTERNAL environment names no worker pool.",
      "Give --environment_config=HOST:PORT of a running worker pool.",
    );
  const descriptor = (url: string) => ({ url, authentication: undefined });
  const start: StartWorkerRequest = {
    workerId: harnessId,
    controlEndpoint: descriptor(endpoints.control),
    loggingEndpoint: descriptor(endpoints.logging),
    artifactEndpoint: descriptor(endpoints.artifact),
    provisionEndpoint: descriptor(endpoints.provision),
    params: payload.params,
  };
  let answer: StartWorkerResponse;
  try {
    answer = await callPool<StartWorkerRequest, StartWorkerResponse>(
      address,
      "startWorker",
      start,
      START_DEADLINE_MS,
      signal,
    );
  } catch (failure) {
    const error = WeirError.from(failure);
    // The pool may have started it after all; a harness without a runner ends by itself, but sooner is better.
    if (error.code !== "UNAVAILABLE") void stopWorker(address, harnessId).catch(() => undefined);
    signal.throwIfAborted();
    throw new WeirError({
      code: error.code,
      domain: "external",
      message: `The worker pool of the EXTERNAL environment at ${address} did not start an SDK harness: ${error.message}`,
      hint: "Is it running, and reachable from this worker? A LOOPBACK pool lives in the client that submitted the job.",
      retry: error.retry,
      cause: error,
    });
  }
  if (answer.error !== "")
    throw new WeirError({
      code: "INTERNAL",
      domain: "external",
      message: `The worker pool at ${address} could not start an SDK harness: ${answer.error.slice(0, 16_384)}`,
    });
  let stopping: Promise<void> | undefined;
  return {
    exited: new Promise(() => undefined),
    stop: () => (stopping ??= stopWorker(address, harnessId)),
  };
}

/** Resolves too when the pool is gone: its harnesses are gone with it, or out of reach. */
async function stopWorker(address: string, harnessId: string): Promise<void> {
  try {
    const request: StopWorkerRequest = { workerId: harnessId };
    const answer = await callPool<StopWorkerRequest, StopWorkerResponse>(
      address,
      "stopWorker",
      request,
      STOP_DEADLINE_MS,
    );
    if (answer.error !== "")
      throw new WeirError({
        code: "INTERNAL",
        domain: "external",
        message: `The worker pool at ${address} could not stop SDK harness ${harnessId}: ${answer.error.slice(0, 16_384)}`,
      });
  } catch (failure) {
    const error = WeirError.from(failure);
    if (error.code !== "UNAVAILABLE" && error.code !== "DEADLINE_EXCEEDED" && error.code !== "CANCELLED") throw error;
  }
}

/** One call over a connection of its own, ended by the deadline or the signal. */
function callPool<Request, Response>(
  address: string,
  method: "startWorker" | "stopWorker",
  request: Request,
  deadlineMs: number,
  signal?: AbortSignal,
): Promise<Response> {
  const client = openClient(BeamFnExternalWorkerPoolDefinition as unknown as GenericService, address);
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), deadlineMs);
  const ended = AbortSignal.any([deadline.signal, ...(signal === undefined ? [] : [signal])]);
  return new Promise<Response>((resolve, reject) => {
    const call = client[method] as (
      request: Request,
      callback: (failure: grpc.ServiceError | null, response: Response) => void,
    ) => grpc.ClientUnaryCall;
    const running = call.call(client, request, (failure, response) => {
      if (failure === null) resolve(response);
      else if (deadline.signal.aborted)
        reject(
          new WeirError({
            code: "DEADLINE_EXCEEDED",
            domain: "external",
            message: `no answer within ${deadlineMs / 1_000} s`,
            retry: true,
          }),
        );
      else reject(fromStatus(failure));
    });
    const cancel = () => running.cancel();
    if (ended.aborted) cancel();
    else ended.addEventListener("abort", cancel, { once: true });
  }).finally(() => {
    clearTimeout(timer);
    client.close();
  });
}
