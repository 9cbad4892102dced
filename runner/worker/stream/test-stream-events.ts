/**
 * Where a TestStream's events come from: its payload, or a TestStreamService that the payload names.
 * Source: TestStreamService of beam_interactive_api.proto.
 */
import * as grpc from "@grpc/grpc-js";
import { type EventsRequest, TestStreamServiceDefinition } from "../../../proto/gen/beam_interactive_api.ts";
import type { TestStreamPayload, TestStreamPayload_Event } from "../../../proto/gen/beam_runner_api.ts";
import { WeirError } from "../../base/errors.ts";
import { CHANNEL_OPTIONS, fromStatus, type GenericService, serviceDefinition } from "../../base/grpc.ts";

export interface TestStreamEvents {
  /** The event at a position, asked for in order; undefined after the last. */
  get(position: number): TestStreamPayload_Event | undefined | Promise<TestStreamPayload_Event | undefined>;
  /** Units of time in a millisecond. A service's events are in microseconds: that is what Python records. */
  readonly unitsPerMs: number;
  close(): void;
}

/** @param outputIds local names of the TestStream's outputs */
export function openTestStreamEvents(payload: TestStreamPayload, outputIds: readonly string[]): TestStreamEvents {
  const url = payload.endpoint?.url ?? "";
  if (url === "") return { unitsPerMs: 1, get: (position) => payload.events[position], close: () => undefined };
  return new ServedEvents(url, outputIds);
}

type EventsClient = grpc.Client & {
  events(request: EventsRequest): grpc.ClientReadableStream<TestStreamPayload_Event>;
};

const EventsStub = grpc.makeClientConstructor(
  serviceDefinition(TestStreamServiceDefinition as unknown as GenericService),
  TestStreamServiceDefinition.fullName,
);

/** Events as a service streams them; no more is read from the stream than is asked for. */
class ServedEvents implements TestStreamEvents {
  readonly unitsPerMs = 1_000;
  readonly #url: string;
  readonly #outputIds: readonly string[];
  readonly #client: EventsClient;
  #stream: AsyncIterator<TestStreamPayload_Event> | undefined;
  #call: grpc.ClientReadableStream<TestStreamPayload_Event> | undefined;
  #read = 0;

  constructor(url: string, outputIds: readonly string[]) {
    this.#url = url;
    this.#outputIds = outputIds;
    this.#client = new EventsStub(url, grpc.credentials.createInsecure(), CHANNEL_OPTIONS) as unknown as EventsClient;
  }

  async get(position: number): Promise<TestStreamPayload_Event | undefined> {
    if (this.#stream === undefined) {
      this.#call = this.#client.events({ outputIds: [...this.#outputIds] });
      this.#stream = (this.#call as AsyncIterable<TestStreamPayload_Event>)[Symbol.asyncIterator]();
    }
    try {
      for (;;) {
        const next = await this.#stream.next();
        if (next.done === true) return undefined;
        // A restored task skips what it has emitted.
        if (this.#read++ === position) return next.value;
      }
    } catch (failure) {
      const cause = failure instanceof Error && "code" in failure ? fromStatus(failure as grpc.ServiceError) : failure;
      throw new WeirError({
        code: "UNAVAILABLE",
        domain: "external",
        message: `The TestStream's event service ${this.#url} cannot be read: ${WeirError.from(cause).message}`,
        hint: "Is the endpoint that the pipeline names reachable from the worker?",
      });
    }
  }

  close(): void {
    this.#call?.cancel();
    this.#client.close();
  }
}
