/**
 * State requests of one running bundle: sent, awaited, paged. Answers come by the request's id.
 *
 * Source: message StateRequest of beam_fn_api.proto.
 */
import type { StateKey, StateRequest, StateResponse } from "../proto/gen/beam_fn_api.ts";

export class StateClient {
  readonly #send: (request: StateRequest) => void;
  readonly #waiting = new Map<string, { resolve(response: StateResponse): void; reject(failure: Error): void }>();
  #nextId = 0;

  constructor(send: (request: StateRequest) => void) {
    this.#send = send;
  }

  /** All pages, joined. @throws the runner's error. */
  async get(instructionId: string, stateKey: StateKey): Promise<Uint8Array> {
    const pages: Uint8Array[] = [];
    for (let continuationToken: Uint8Array = new Uint8Array(); ;) {
      const { response } = await this.#ask(instructionId, stateKey, { $case: "get", value: { continuationToken } });
      if (response?.$case !== "get") throw new Error("A state get was answered by something else.");
      pages.push(response.value.data);
      continuationToken = response.value.continuationToken;
      if (continuationToken.length === 0) break;
    }
    return pages.length === 1 ? (pages[0] as Uint8Array) : new Uint8Array(Buffer.concat(pages));
  }

  async append(instructionId: string, stateKey: StateKey, data: Uint8Array): Promise<void> {
    await this.#ask(instructionId, stateKey, { $case: "append", value: { data } });
  }

  async clear(instructionId: string, stateKey: StateKey): Promise<void> {
    await this.#ask(instructionId, stateKey, { $case: "clear", value: {} });
  }

  #ask(
    instructionId: string,
    stateKey: StateKey,
    request: NonNullable<StateRequest["request"]>,
  ): Promise<StateResponse> {
    const id = `${instructionId}/${this.#nextId++}`;
    const answer = Promise.withResolvers<StateResponse>();
    this.#waiting.set(id, answer);
    this.#send({ id, instructionId, stateKey, request });
    return answer.promise;
  }

  onResponse(response: StateResponse): void {
    const waiting = this.#waiting.get(response.id);
    this.#waiting.delete(response.id);
    if (response.error === "") waiting?.resolve(response);
    else waiting?.reject(new Error(response.error));
  }
}
