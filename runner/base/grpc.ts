/**
 * gRPC plumbing shared by every service: generated service descriptions become grpc-js definitions without copying
 * message bytes, WeirErrors become gRPC statuses in one table, servers are opened and closed as resources.
 */
import * as grpc from "@grpc/grpc-js";
import type { BinaryWriter } from "@bufbuild/protobuf/wire";
import { type BinaryReader } from "@bufbuild/protobuf/wire";
import { type ErrorCode, WeirError } from "./errors.ts";

interface MessageCodec<Message> {
  encode(message: Message, writer?: BinaryWriter): BinaryWriter;
  decode(input: BinaryReader | Uint8Array, length?: number): Message;
}

interface GenericMethod {
  readonly name: string;
  readonly requestType: MessageCodec<never>;
  readonly requestStream: boolean;
  readonly responseType: MessageCodec<never>;
  readonly responseStream: boolean;
}

export interface GenericService {
  readonly fullName: string;
  readonly methods: Readonly<Record<string, GenericMethod>>;
}

/** Messages of any size are accepted: pipelines and data chunks are bounded elsewhere, by bytes that we count. */
export const CHANNEL_OPTIONS: grpc.ChannelOptions = {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  // Python and Go clients ping idle streams; a GOAWAY "too_many_pings" would kill a long job.
  "grpc.keepalive_permit_without_calls": 1,
};

/**
 * Who opens a client anew has waited already: it connects at once, and does not share a connection of a closed client
 * that waits (up to two minutes, by gRPC's own backoff) before it tries again.
 */
const CLIENT_OPTIONS: grpc.ChannelOptions = { ...CHANNEL_OPTIONS, "grpc.use_local_subchannel_pool": 1 };

/** The bytes of a finished writer as a Buffer over the same memory. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * A grpc-js service definition for a generated generic definition. Methods named in `raw` hand over and take plain
 * Buffers instead of messages: for the data path, which encodes by hand.
 */
export function serviceDefinition(
  service: GenericService,
  raw: ReadonlySet<string> = new Set(),
): grpc.ServiceDefinition {
  const definition: Record<string, grpc.MethodDefinition<unknown, unknown>> = {};
  for (const [key, method] of Object.entries(service.methods)) {
    const isRaw = raw.has(key);
    const encoder = (codec: MessageCodec<never>) => (message: unknown) =>
      isRaw ? (message as Buffer) : asBuffer(codec.encode(message as never).finish());
    const decoder = (codec: MessageCodec<never>) => (bytes: Buffer) => (isRaw ? bytes : codec.decode(bytes));
    definition[key] = {
      path: `/${service.fullName}/${method.name}`,
      requestStream: method.requestStream,
      responseStream: method.responseStream,
      requestSerialize: encoder(method.requestType),
      requestDeserialize: decoder(method.requestType),
      responseSerialize: encoder(method.responseType),
      responseDeserialize: decoder(method.responseType),
    };
  }
  return definition;
}

/** A client class for a generated service; `new (clientFor(S))(address, credentials)`. */
export function openClient(
  service: GenericService,
  address: string,
  raw?: ReadonlySet<string>,
): grpc.Client & Record<string, unknown> {
  const Client = grpc.makeClientConstructor(serviceDefinition(service, raw), service.fullName);
  return new Client(address, grpc.credentials.createInsecure(), CLIENT_OPTIONS) as unknown as grpc.Client &
    Record<string, unknown>;
}

/** One unary call as a promise. @throws WeirError with the status' code and text. */
export function unaryCall<Request, Response>(
  client: grpc.Client & Record<string, unknown>,
  method: string,
  request: Request,
  options: { readonly deadlineMs?: number; readonly metadata?: grpc.Metadata; readonly nowMs?: number } = {},
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const call = client[method] as (
      request: Request,
      metadata: grpc.Metadata,
      options: grpc.CallOptions,
      callback: (failure: grpc.ServiceError | null, response: Response) => void,
    ) => void;
    const callOptions = options.deadlineMs === undefined ? {} : { deadline: new Date(Date.now() + options.deadlineMs) };
    call.call(client, request, options.metadata ?? new grpc.Metadata(), callOptions, (failure, response) => {
      if (failure) reject(fromStatus(failure));
      else resolve(response);
    });
  });
}

const STATUS_OF: Readonly<Record<ErrorCode, grpc.status>> = {
  INVALID_ARGUMENT: grpc.status.INVALID_ARGUMENT,
  NOT_FOUND: grpc.status.NOT_FOUND,
  ALREADY_EXISTS: grpc.status.ALREADY_EXISTS,
  FAILED_PRECONDITION: grpc.status.FAILED_PRECONDITION,
  RESOURCE_EXHAUSTED: grpc.status.RESOURCE_EXHAUSTED,
  UNIMPLEMENTED: grpc.status.UNIMPLEMENTED,
  UNAVAILABLE: grpc.status.UNAVAILABLE,
  DEADLINE_EXCEEDED: grpc.status.DEADLINE_EXCEEDED,
  ABORTED: grpc.status.ABORTED,
  CANCELLED: grpc.status.CANCELLED,
  DATA_LOSS: grpc.status.DATA_LOSS,
  INTERNAL: grpc.status.INTERNAL,
};

/** What a failed handler answers with. */
export function toStatus(thrown: unknown): grpc.StatusObject & Error {
  const error = WeirError.from(thrown);
  return Object.assign(new Error(error.message), {
    code: STATUS_OF[error.code],
    details: error.message,
    metadata: new grpc.Metadata(),
  });
}

/** What grpc-js says of a call that got no answer, and what of it is for people: the cause, without its own steps. */
const TRANSPORT_TEXTS: readonly (readonly [RegExp, string])[] = [
  [/^No connection established\. Last error: (?:Error: )?(.*?)(?: \([\d-]+T[\d:.]+Z\))?\. Resolution note:.*$/s, "$1"],
  [/^Protocol error$/, "what answers there is no gRPC server"],
  [/^Name resolution failed for target (?:dns:)?(.*)$/s, "the host name of $1 cannot be resolved"],
  [/^Deadline exceeded after ([\d.]+)s,.*$/s, "no answer within $1 s"],
];

/** Why a call or stream failed, in words for people; what a service has answered stays as it is. */
export function failureText(failure: Error & { readonly details?: string }): string {
  const told = failure.details || failure.message;
  return TRANSPORT_TEXTS.reduce((text, [pattern, words]) => text.replace(pattern, words), told);
}

/** A failed call as a WeirError; unavailable and deadline are worth a retry. */
export function fromStatus(failure: grpc.ServiceError): WeirError {
  const named = Object.entries(STATUS_OF).find(([, status]) => status === failure.code)?.[0] as ErrorCode | undefined;
  const code = named ?? "INTERNAL";
  const text = failureText(failure);
  return new WeirError({
    code,
    domain: "external",
    // A hint may follow.
    message: /\w$/.test(text) ? `${text}.` : text,
    retry: code === "UNAVAILABLE" || code === "DEADLINE_EXCEEDED",
    cause: failure,
  });
}

/** A unary handler from an async function; what it throws becomes the status. */
export function unaryHandler<Request, Response>(
  handle: (request: Request, call: grpc.ServerUnaryCall<Request, Response>) => Promise<Response> | Response,
): grpc.handleUnaryCall<Request, Response> {
  return (call, callback) => {
    Promise.resolve()
      .then(() => handle(call.request, call))
      .then(
        (response) => callback(null, response),
        (thrown: unknown) => callback(toStatus(thrown)),
      );
  };
}

export interface ServedService {
  readonly service: GenericService;
  readonly handlers: grpc.UntypedServiceImplementation;
  readonly raw?: ReadonlySet<string>;
}

/** A gRPC server that is listening. */
export class GrpcServer {
  readonly #server: grpc.Server;
  readonly #host: string;
  readonly port: number;
  #closed: Promise<void> | undefined;

  private constructor(server: grpc.Server, host: string, port: number) {
    this.#server = server;
    this.#host = host;
    this.port = port;
  }

  /** Host and port that clients use. */
  get address(): string {
    return `${this.#host}:${this.port}`;
  }

  /**
   * Binds and listens. Port 0 takes any free one.
   * @throws WeirError FAILED_PRECONDITION when the port is taken or the host is not ours.
   */
  static async open(services: readonly ServedService[], host: string, port: number): Promise<GrpcServer> {
    const server = new grpc.Server(CHANNEL_OPTIONS);
    for (const served of services) server.addService(serviceDefinition(served.service, served.raw), served.handlers);
    const bound = await new Promise<number>((resolve, reject) => {
      server.bindAsync(`${host}:${port}`, grpc.ServerCredentials.createInsecure(), (failure, boundPort) => {
        if (failure)
          reject(
            new WeirError({
              code: "FAILED_PRECONDITION",
              domain: "user",
              message: `Cannot listen on ${host}:${port}: ${failure.message}.`,
              hint: "Is another server using the port? Choose another one, or 0 for any free port.",
              cause: failure,
            }),
          );
        else resolve(boundPort);
      });
    });
    return new GrpcServer(server, host, bound);
  }

  /** Stops listening and ends every call: gracefully for `graceMs`, then by force. Idempotent. */
  close(graceMs = 0): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      const force = setTimeout(() => {
        this.#server.forceShutdown();
        resolve();
      }, graceMs);
      this.#server.tryShutdown(() => {
        clearTimeout(force);
        resolve();
      });
    });
    return this.#closed;
  }
}
