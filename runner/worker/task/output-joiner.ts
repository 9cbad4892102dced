/**
 * Puts together elements that an SDK has cut into several messages of one stream: "a single element may span multiple
 * Data messages" (Elements of beam_fn_api.proto). Go's SDK does so, and Python's where it flushes by time
 * (data_buffer_time_limit_ms).
 *
 * A message of whole elements, which is nearly every one, goes on untouched. Else what is whole goes on, and the rest
 * waits; it is tried again only when there is twice as much of it, so that an element of any number of messages is
 * copied a few times and not once for each. One that becomes larger than an element can be is an error: the rest is held
 * in memory.
 */
import { WeirError } from "../../base/errors.ts";
import { MAX_ELEMENT_BYTES } from "../../base/limits.ts";
import { TruncatedElementError } from "../../coders/byte-reader.ts";

/**
 * Takes whole elements of a stream. @throws TruncatedElementError when the last one goes on; then either nothing was
 * taken, or taking the same again does no harm.
 */
export type TakeElements = (stream: string, data: Uint8Array) => Promise<void> | void;

interface Rest {
  readonly parts: Uint8Array[];
  byteLength: number;
  readonly tryAtBytes: number;
}

export class OutputJoiner {
  readonly #take: TakeElements;
  readonly #nameOf: (stream: string) => string;
  readonly #maxElementBytes: number;
  readonly #rests = new Map<string, Rest>();

  /** @param nameOf what a stream is, for people */
  constructor(take: TakeElements, nameOf: (stream: string) => string, maxElementBytes = MAX_ELEMENT_BYTES) {
    this.#take = take;
    this.#nameOf = nameOf;
    this.#maxElementBytes = maxElementBytes;
  }

  /**
   * The next bytes of a stream. @throws what `take` throws, save for an element that goes on; also by its promise.
   * @throws WeirError RESOURCE_EXHAUSTED for an element that is too large
   */
  add(stream: string, data: Uint8Array): Promise<void> | void {
    const rest = this.#rests.get(stream);
    if (rest === undefined) return this.#split(stream, data);
    if (rest.byteLength + data.length > this.#maxElementBytes) {
      // What comes after it is taken for the begin of an element, and dropped with the bundle.
      this.#rests.delete(stream);
      throw this.#tooLarge(stream);
    }
    // A copy: what came over the network is not kept.
    rest.parts.push(data.slice());
    rest.byteLength += data.length;
    if (rest.byteLength < rest.tryAtBytes) return undefined;
    this.#rests.delete(stream);
    return this.#split(stream, Buffer.concat(rest.parts));
  }

  /** The stream is at its end. @throws TruncatedElementError when an element of it is not. */
  end(stream: string): Promise<void> | void {
    const rest = this.#rests.get(stream);
    this.#rests.delete(stream);
    return rest === undefined ? undefined : this.#take(stream, Buffer.concat(rest.parts));
  }

  #tooLarge(stream: string): WeirError {
    return new WeirError({
      code: "RESOURCE_EXHAUSTED",
      domain: "user",
      message: `An element of ${this.#nameOf(stream)} goes on after ${this.#maxElementBytes} bytes, the most that one may have.`,
      hint: "Emit parts of it as elements; or its coder writes another length than it has.",
    });
  }

  #split(stream: string, data: Uint8Array): Promise<void> | void {
    try {
      return this.#take(stream, data);
    } catch (failure) {
      if (!(failure instanceof TruncatedElementError)) throw failure;
      const { wholeBytes } = failure;
      const rest = data.slice(wholeBytes);
      this.#rests.set(stream, { parts: [rest], byteLength: rest.length, tryAtBytes: rest.length * 2 });
      return wholeBytes === 0 ? undefined : this.#take(stream, data.subarray(0, wholeBytes));
    }
  }
}
