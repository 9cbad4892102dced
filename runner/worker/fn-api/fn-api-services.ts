/**
 * The control, data and state services of the Fn API: gRPC streams in, harness connections out. A harness is known by
 * the `worker_id` metadata of its calls; a call from a harness that was not started here is refused.
 *
 * Messages of the Data service are raw buffers: the reader hands subarrays on, the writer encodes with one copy.
 */
import type * as grpc from "@grpc/grpc-js";
import {
  BeamFnControlDefinition,
  BeamFnDataDefinition,
  BeamFnStateDefinition,
  Elements,
  type GetProcessBundleDescriptorRequest,
  InstructionRequest,
  InstructionResponse,
  type ProcessBundleDescriptor,
  type StateRequest,
} from "../../../proto/gen/beam_fn_api.ts";
import { WeirError, userError } from "../../base/errors.ts";
import {
  asBuffer,
  failureText,
  type GenericService,
  type ServedService,
  toStatus,
  unaryHandler,
} from "../../base/grpc.ts";
import type { HarnessId } from "../../base/ids.ts";
import type { HarnessConnection, StateReply } from "../task/harness-connection.ts";
import { encodeStateError, encodeStateReply, StateRequestReader } from "./state-messages.ts";

/** Which harnesses may connect, and which descriptors they may ask for. */
export interface HarnessDirectory {
  connection(harnessId: HarnessId): HarnessConnection | undefined;
  /** All live connections; SDKs before 2.63 open the state stream without worker_id. */
  connections(): Iterable<HarnessConnection>;
  descriptor(descriptorId: string): ProcessBundleDescriptor | undefined;
}

type AnyDuplex<Request, Response> = grpc.ServerDuplexStream<Request, Response>;

function harnessIdOf(call: { readonly metadata: grpc.Metadata }): HarnessId | undefined {
  const value = call.metadata.get("worker_id")[0];
  return value === undefined ? undefined : (value.toString() as HarnessId);
}

/** The caller's connection; a call from a harness that was not started here is answered NOT_FOUND. */
function connectionOrRefusal(
  directory: HarnessDirectory,
  call: { readonly metadata: grpc.Metadata; emit(event: "error", refusal: Error): boolean },
): HarnessConnection | undefined {
  const harnessId = harnessIdOf(call);
  const connection = harnessId === undefined ? undefined : directory.connection(harnessId);
  if (connection === undefined) {
    const message = `No SDK harness with worker_id "${harnessId ?? ""}" was started by this worker.`;
    call.emit("error", toStatus(userError("NOT_FOUND", message)));
  }
  return connection;
}

/** What a harness sent; undefined, and the harness is lost, when it cannot be read: nothing after it could be trusted. */
function readOrLose<Message>(connection: HarnessConnection | undefined, what: string, read: () => Message) {
  try {
    return read();
  } catch (failure) {
    connection?.lose(
      `it sent what is no message of the Fn API on its ${what} stream (${WeirError.from(failure).message})`,
    );
    return undefined;
  }
}

/** The stream's end in either direction is the harness's end. @param onEnded when it has ended, however */
function watchStream(
  connection: HarnessConnection,
  call: AnyDuplex<never, never>,
  what: string,
  onEnded: () => void = () => undefined,
): void {
  const ended = (reason: string) => {
    onEnded();
    connection.streamEnded(reason);
  };
  call.on("end", () => {
    ended(`it closed its ${what} stream`);
    call.end();
  });
  call.on("error", (failure: Error) => ended(`its ${what} stream broke (${failureText(failure)})`));
  call.on("cancelled", () => ended(`its ${what} stream was cut`));
  call.on("close", () => ended(`its ${what} stream was closed`));
}

export function controlService(directory: HarnessDirectory): ServedService {
  const control: grpc.handleBidiStreamingCall<Buffer, Buffer> = (call) => {
    const connection = connectionOrRefusal(directory, call);
    if (connection === undefined) return;
    call.on("data", (message: Buffer) => {
      const response = readOrLose(connection, "control", () => InstructionResponse.decode(message));
      if (response !== undefined) connection.onInstructionResponse(response);
    });
    watchStream(connection, call as unknown as AnyDuplex<never, never>, "control");
    connection.attachControl({
      write: (request) => call.write(asBuffer(InstructionRequest.encode(request).finish())),
      once: (event, listener) => call.once(event, listener),
      end: () => call.end(),
    });
  };
  const getProcessBundleDescriptor = unaryHandler(
    (request: GetProcessBundleDescriptorRequest): ProcessBundleDescriptor => {
      const descriptor = directory.descriptor(request.processBundleDescriptorId);
      if (descriptor === undefined)
        throw userError("NOT_FOUND", `Unknown process bundle descriptor "${request.processBundleDescriptorId}".`);
      return descriptor;
    },
  );
  return {
    service: BeamFnControlDefinition as unknown as GenericService,
    handlers: { control, getProcessBundleDescriptor } as grpc.UntypedServiceImplementation,
    raw: new Set(["control"]),
  };
}

export function dataService(directory: HarnessDirectory): ServedService {
  const data: grpc.handleBidiStreamingCall<Buffer, Buffer> = (call) => {
    const connection = connectionOrRefusal(directory, call);
    if (connection === undefined) return;
    // One message at a time: a message that makes a bundle spill holds the stream only for the disk.
    let tail: Promise<void> = Promise.resolve();
    let waiting = 0;
    call.on("data", (message: Buffer) => {
      const elements = readOrLose(connection, "data", () => Elements.decode(message));
      if (elements === undefined) return;
      waiting++;
      if (waiting > 1) call.pause();
      tail = tail
        .then(() => connection.onElements(elements))
        .catch((failure: unknown) =>
          connection.lose(`its data could not be taken (${WeirError.from(failure).message})`),
        )
        .finally(() => {
          waiting--;
          if (waiting === 0) call.resume();
        });
    });
    watchStream(connection, call as unknown as AnyDuplex<never, never>, "data", () => connection.dataEnded());
    connection.attachData(call);
  };
  return {
    service: BeamFnDataDefinition as unknown as GenericService,
    handlers: { data } as grpc.UntypedServiceImplementation,
    raw: new Set(["data"]),
  };
}

/** Requests of one stream that are being answered before its next one is read. */
const MAX_STATE_REQUESTS = 32;

export function stateService(directory: HarnessDirectory): ServedService {
  const state: grpc.handleBidiStreamingCall<Buffer, Buffer> = (call) => {
    const reader = new StateRequestReader();
    const harnessId = harnessIdOf(call);
    const bundleOf = (instructionId: string) => {
      const own = harnessId === undefined ? undefined : directory.connection(harnessId);
      if (own !== undefined) return own.bundle(instructionId);
      for (const connection of directory.connections()) {
        const bundle = connection.bundle(instructionId);
        if (bundle !== undefined) return bundle;
      }
      return undefined;
    };
    // An SDK that asks and does not read must not grow the queue of answers: it is not listened to until it does.
    let unanswered = 0;
    let isDraining = false;
    const listenAsFits = () => {
      if (isDraining || unanswered >= MAX_STATE_REQUESTS) call.pause();
      else call.resume();
    };
    const respond = (response: Buffer) => {
      unanswered--;
      if (!call.write(response)) isDraining = true;
      listenAsFits();
    };
    call.on("drain", () => {
      isDraining = false;
      listenAsFits();
    });
    const readOrRefuse = (message: Buffer): StateRequest | undefined => {
      const connection = harnessId === undefined ? undefined : directory.connection(harnessId);
      const request = readOrLose(connection, "state", () => reader.read(message));
      if (request === undefined)
        call.emit("error", toStatus(userError("INVALID_ARGUMENT", "The request is no StateRequest.")));
      return request;
    };
    const answer = (request: StateRequest): Promise<StateReply> | StateReply => {
      const bundle = bundleOf(request.instructionId);
      if (bundle === undefined) throw new Error(`No running bundle "${request.instructionId}".`);
      return bundle.onState(request);
    };
    call.on("data", (message: Buffer) => {
      const request = readOrRefuse(message);
      if (request === undefined) return;
      const { id } = request;
      unanswered++;
      listenAsFits();
      const fail = (failure: unknown) => respond(encodeStateError(id, WeirError.from(failure).message));
      try {
        const reply = answer(request);
        if (reply instanceof Promise) reply.then((ready) => respond(encodeStateReply(id, ready)), fail);
        else respond(encodeStateReply(id, reply));
      } catch (failure) {
        fail(failure);
      }
    });
    call.on("end", () => call.end());
    // A broken state stream breaks the control stream too, where it is reported.
    call.on("error", () => undefined);
  };
  return {
    service: BeamFnStateDefinition as unknown as GenericService,
    handlers: { state } as grpc.UntypedServiceImplementation,
    raw: new Set(["state"]),
  };
}
