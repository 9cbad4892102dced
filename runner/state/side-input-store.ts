/**
 * The side inputs of one worker: each is read from its broadcast datasets once, however many tasks use it, and dropped
 * with the last of them. All share one memory budget; past it values go to spill files and only their index stays.
 *
 * Invariant: a side input is complete before anyone sees it; it never changes afterwards.
 */
import type { Chunk } from "../base/chunk.ts";
import { WeirError } from "../base/errors.ts";
import type { DatasetId, JobId, TaskAttemptId } from "../base/ids.ts";
import type { CoderTable } from "../graph/execution-graph.ts";
import { MemoryBudget } from "./memory-budget.ts";
import { MaterialisedSideInput, type SideInputKind, type SideInputPage } from "./side-input/materialised-side-input.ts";
import { SpillFile } from "./spill-file.ts";

export type { SideInputKind, SideInputPage } from "./side-input/materialised-side-input.ts";

export interface SideInputStoreInit {
  /** For spill files; made when it is not there. */
  readonly directory: string;
  readonly memoryBytes: number;
  /** One key of a map with its values, read in bulk. */
  readonly mapEntryBytes: number;
}

/** A partition that a side input is read from; a PartitionRef is one. */
export interface SideInputRef {
  readonly jobId: JobId;
  readonly datasetId: DatasetId;
  readonly attemptId: TaskAttemptId;
  readonly index: number;
}

export interface SideInputLoad<Ref extends SideInputRef> {
  /** Every partition of its datasets. */
  readonly refs: readonly Ref[];
  /** A PartitionReader. */
  readonly reader: { read(ref: Ref, signal: AbortSignal): AsyncIterable<Chunk> };
  readonly coders: CoderTable;
  /** windowed_value coder of the elements. */
  readonly coderId: string;
  /** beam:side_input:iterable:v1 or beam:side_input:multimap:v1. */
  readonly accessPatternUrn: string;
  readonly signal: AbortSignal;
}

/** One task's hold on a side input. */
export interface SideInput {
  /**
   * A page of what a state key asks for. Windows and keys are the encoded bytes of the wire's coders; a window or key
   * that is not there has no values.
   * @param key for `multimap` only.
   * @param continuationToken of the page before, or empty.
   * @throws WeirError INVALID_ARGUMENT for a token that is none of ours or a kind that the access pattern lacks.
   */
  page(
    kind: SideInputKind,
    window: Uint8Array,
    key: Uint8Array,
    continuationToken: Uint8Array,
    pageBytes: number,
  ): Promise<SideInputPage> | SideInputPage;
  /** Gives up the hold; the last one drops the side input. Idempotent. */
  close(): Promise<void>;
}

interface Shared {
  readonly key: string;
  readonly abort: AbortController;
  readonly loaded: Promise<MaterialisedSideInput>;
  holds: number;
}

export class SideInputStore {
  readonly #directory: string;
  readonly #budget: MemoryBudget;
  readonly #mapEntryBytes: number;
  readonly #shared = new Map<string, Shared>();
  #closed = false;

  private constructor(init: SideInputStoreInit) {
    this.#directory = init.directory;
    this.#budget = new MemoryBudget(init.memoryBytes);
    this.#mapEntryBytes = init.mapEntryBytes;
  }

  static open(init: SideInputStoreInit): SideInputStore {
    return new SideInputStore(init);
  }

  /** Bytes held in memory. */
  get memoryBytes(): number {
    return this.#budget.usedBytes;
  }

  /**
   * Reads the side input, or waits for who reads it already.
   * @throws what the reader throws (LostPartitionError), WeirError when it cannot be spilled, the signal's reason.
   */
  async load<Ref extends SideInputRef>(load: SideInputLoad<Ref>): Promise<SideInput> {
    load.signal.throwIfAborted();
    if (this.#closed) throw released();
    const key = keyOf(load);
    const shared = this.#shared.get(key) ?? this.#begin(key, load);
    shared.holds++;
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(load.signal.reason);
    load.signal.addEventListener("abort", onAbort, { once: true });
    try {
      return this.#hold(shared, await Promise.race([shared.loaded, aborted]));
    } catch (failure) {
      await this.#release(shared);
      throw failure;
    } finally {
      load.signal.removeEventListener("abort", onAbort);
    }
  }

  #begin<Ref extends SideInputRef>(key: string, load: SideInputLoad<Ref>): Shared {
    const abort = new AbortController();
    const shared: Shared = { key, abort, loaded: this.#materialise(load, abort.signal), holds: 0 };
    shared.loaded.catch(() => this.#forget(shared));
    this.#shared.set(key, shared);
    return shared;
  }

  async #materialise<Ref extends SideInputRef>(
    { refs, reader, coders, coderId, accessPatternUrn }: SideInputLoad<Ref>,
    signal: AbortSignal,
  ): Promise<MaterialisedSideInput> {
    const openSpillFile = () => SpillFile.open(this.#directory, "side-input");
    const sideInput = new MaterialisedSideInput({
      coders,
      coderId,
      accessPatternUrn,
      budget: this.#budget,
      mapEntryBytes: this.#mapEntryBytes,
      openSpillFile,
    });
    try {
      for (const ref of refs)
        for await (const chunk of reader.read(ref, signal)) {
          const wait = sideInput.add(chunk);
          if (wait !== undefined) await wait;
          signal.throwIfAborted();
        }
      sideInput.complete();
      return sideInput;
    } catch (failure) {
      await sideInput.close();
      throw failure;
    }
  }

  #hold(shared: Shared, sideInput: MaterialisedSideInput): SideInput {
    let closing: Promise<void> | undefined;
    return {
      page: (kind, window, key, continuationToken, pageBytes) => {
        if (closing !== undefined) throw released();
        return sideInput.page(kind, window, key, continuationToken, pageBytes);
      },
      close: () => {
        closing ??= this.#release(shared);
        return closing;
      },
    };
  }

  async #release(shared: Shared): Promise<void> {
    shared.holds--;
    if (shared.holds > 0) return;
    await this.#drop(shared);
  }

  #forget(shared: Shared): void {
    if (this.#shared.get(shared.key) === shared) this.#shared.delete(shared.key);
  }

  async #drop(shared: Shared): Promise<void> {
    this.#forget(shared);
    shared.abort.abort(released());
    const sideInput = await shared.loaded.catch(() => undefined);
    await sideInput?.close();
  }

  /** Drops all of them; loads that are under way fail. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#shared.values()].map((shared) => this.#drop(shared)));
  }
}

function released(): WeirError {
  return new WeirError({ code: "ABORTED", domain: "internal", message: "The side input was released." });
}

function keyOf<Ref extends SideInputRef>({ accessPatternUrn, coderId, refs }: SideInputLoad<Ref>): string {
  const parts = refs.map((ref) => [ref.jobId, ref.datasetId, ref.attemptId, ref.index]);
  return JSON.stringify([accessPatternUrn, coderId, parts]);
}
