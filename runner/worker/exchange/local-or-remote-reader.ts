/** Reads a partition from this worker's own store where it lies there, else over the exchange. */
import type { Chunk } from "../../base/chunk.ts";
import { WeirError } from "../../base/errors.ts";
import type { WorkerId } from "../../base/ids.ts";
import type { PartitionStore } from "../../state/partition-store.ts";
import type { PartitionReader, PartitionRef } from "../task/ports.ts";
import { LostPartitionError } from "./lost-partition-error.ts";
import { verifyLength } from "./verify-length.ts";

export class LocalOrRemoteReader implements PartitionReader {
  readonly #workerId: WorkerId;
  readonly #store: PartitionStore;
  readonly #remote: PartitionReader;

  constructor(workerId: WorkerId, store: PartitionStore, remote: PartitionReader) {
    this.#workerId = workerId;
    this.#store = store;
    this.#remote = remote;
  }

  read(ref: PartitionRef, signal: AbortSignal): AsyncIterable<Chunk> {
    if (ref.workerId !== this.#workerId) return this.#remote.read(ref, signal);
    return verifyLength(ref, this.#local(ref, signal));
  }

  async *#local(ref: PartitionRef, signal: AbortSignal): AsyncGenerator<Chunk> {
    try {
      yield* this.#store.read(ref, signal);
    } catch (failure) {
      signal.throwIfAborted();
      const error = WeirError.from(failure);
      throw new LostPartitionError(ref, error.message, error.code, error);
    }
  }
}
