/**
 * The main input of a stage that no bundle has taken yet: chunks with watermark and barrier marks between them, in the
 * order in which the head gave them.
 *
 * Invariants: a mark at the front means that everything before it was taken. Input that had waited (for a side input,
 * for its turn, for a checkpoint) holds the watermark until the bundle that takes it has committed.
 */
import { present } from "../../base/assert.ts";
import type { Chunk } from "../../base/chunk.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { cutChunks } from "../task/bundle-input.ts";
import type { Barrier } from "./channel-queue.ts";
import type { HeldChunk } from "./pushed-back-input.ts";

export type StageMark =
  | { readonly kind: "watermark"; readonly timestamp: Timestamp }
  | { readonly kind: "barrier"; readonly barrier: Barrier };

interface DataEntry {
  readonly kind: "data";
  readonly chunk: Chunk;
  /** It had waited, and is in a batch with a hold. */
  readonly released: boolean;
  /** It still has to be looked at: by `prepare` of `take`. */
  readonly raw: boolean;
}

type Entry = DataEntry | StageMark;

/** What a snapshot may hold of a stage's input that has not committed. */
export type StageEntry =
  /** @property hold of the watermark, where it was released */
  (DataEntry & { readonly hold: Timestamp }) | Extract<StageMark, { kind: "watermark" }>;

/** Input that was released together, in the order in which it will be taken. */
interface Batch {
  readonly hold: Timestamp;
  count: number;
}

export interface TakenInput {
  readonly chunks: readonly Chunk[];
  /** Entries taken that had waited: to be given back to `committed`. */
  readonly releasedCount: number;
}

export class StageQueue {
  readonly #skip: Skip;
  #entries: Entry[] = [];
  #bytes = 0;
  #elements = 0;
  #marks = 0;
  #batches: Batch[] = [];

  /** @param skip over one element */
  constructor(skip: Skip) {
    this.#skip = skip;
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get elements(): number {
    return this.#elements;
  }

  /** Whether a mark is anywhere in it. */
  get hasMark(): boolean {
    return this.#marks > 0;
  }

  /** Of input that had waited and has not committed since; MAX_TIMESTAMP when there is none. */
  get releasedHold(): Timestamp {
    let least: Timestamp = MAX_TIMESTAMP;
    for (const { hold } of this.#batches) if (hold < least) least = hold;
    return least;
  }

  get front(): Entry | undefined {
    return this.#entries[0];
  }

  data(chunk: Chunk): void {
    this.#entries.push({ kind: "data", chunk, released: false, raw: true });
    this.#count(chunk, 1);
  }

  /** What of a chunk makes so many elements of what is in here, at least one; and the rest. */
  cut(chunk: Chunk, elements: number): { readonly head: Chunk; readonly rest: Chunk | undefined } {
    const wanted = Math.max(1, elements - this.#elements);
    if (chunk.elementCount <= wanted) return { head: chunk, rest: undefined };
    const { head, tail } = cutChunks([chunk], wanted, this.#skip);
    return { head: present(head[0], "a chunk's head"), rest: tail[0] };
  }

  mark(mark: StageMark): void {
    this.#entries.push(mark);
    this.#marks++;
  }

  #count(chunk: Chunk, sign: 1 | -1): void {
    this.#bytes += sign * chunk.data.length;
    this.#elements += sign * chunk.elementCount;
  }

  /** Takes the front, whatever it is. */
  shift(): void {
    const front = this.#entries.shift();
    if (front?.kind === "data") this.#count(front.chunk, -1);
    else if (front !== undefined) this.#marks--;
  }

  /** Puts input to the front that has waited. @param raw whether it still has to be looked at */
  release(input: readonly HeldChunk[], raw: boolean): void {
    const { entries, batch } = this.#released(input, raw);
    if (batch === undefined) return;
    this.#entries = [...entries, ...this.#entries];
    this.#batches.unshift(batch);
  }

  /** Puts input to the end that has waited, and still has to be looked at. */
  append(input: readonly HeldChunk[]): void {
    const { entries, batch } = this.#released(input, true);
    if (batch === undefined) return;
    this.#entries.push(...entries);
    this.#batches.push(batch);
  }

  #released(
    input: readonly HeldChunk[],
    raw: boolean,
  ): { readonly entries: readonly Entry[]; readonly batch: Batch | undefined } {
    let least: Timestamp = MAX_TIMESTAMP;
    for (const { chunk, hold } of input) {
      this.#count(chunk, 1);
      if (hold < least) least = hold;
    }
    return {
      entries: input.map(({ chunk }): Entry => ({ kind: "data", chunk, released: true, raw })),
      batch: input.length === 0 ? undefined : { hold: least, count: input.length },
    };
  }

  /**
   * Takes elements from the front up to the next mark or the limits.
   * @param prepare what of a chunk may run now, asked once for each; undefined: all of every chunk
   */
  take(
    limits: { readonly maxElements: number; readonly maxBytes: number },
    prepare: ((chunk: Chunk, released: boolean) => Chunk | undefined) | undefined,
  ): TakenInput {
    const chunks: Chunk[] = [];
    let elements = 0;
    let bytes = 0;
    let releasedCount = 0;
    let taken = 0;
    for (; taken < this.#entries.length; taken++) {
      const entry = this.#entries[taken] as Entry;
      if (entry.kind !== "data" || elements >= limits.maxElements || bytes >= limits.maxBytes) break;
      this.#count(entry.chunk, -1);
      const chunk = prepare === undefined || !entry.raw ? entry.chunk : prepare(entry.chunk, entry.released);
      if (chunk === undefined) {
        if (entry.released) releasedCount++;
        continue;
      }
      if (elements + chunk.elementCount > limits.maxElements) {
        const { head, tail } = cutChunks([chunk], limits.maxElements - elements, this.#skip);
        const rest = tail[0];
        if (rest !== undefined) {
          this.#entries[taken] = { kind: "data", chunk: rest, released: entry.released, raw: false };
          this.#count(rest, 1);
          chunks.push(...head);
          break;
        }
      }
      if (entry.released) releasedCount++;
      chunks.push(chunk);
      elements += chunk.elementCount;
      bytes += chunk.data.length;
    }
    this.#entries.splice(0, taken);
    return { chunks, releasedCount };
  }

  /** Everything in it but barriers. @param taken released entries that a bundle has taken and not committed */
  waiting(taken: number): StageEntry[] {
    const holds = this.#batches.flatMap(({ hold, count }) => Array.from({ length: count }, () => hold)).slice(taken);
    let released = 0;
    return this.#entries.flatMap((entry): StageEntry[] => {
      if (entry.kind === "barrier") return [];
      if (entry.kind === "watermark") return [entry];
      return [{ ...entry, hold: (entry.released ? holds[released++] : undefined) ?? MAX_TIMESTAMP }];
    });
  }

  /** Puts in what `waiting` gave, at the end. */
  restore(entries: readonly StageEntry[]): void {
    for (const entry of entries) {
      if (entry.kind === "watermark") {
        this.mark(entry);
        continue;
      }
      const { hold, ...data } = entry;
      this.#entries.push(data);
      this.#count(data.chunk, 1);
      if (data.released) this.#batches.push({ hold, count: 1 });
    }
  }

  /** Takes out the marks of a barrier that has overtaken what is before it. */
  forgetBarrier(checkpointId: number): void {
    const before = this.#entries.length;
    this.#entries = this.#entries.filter(
      (entry) => entry.kind !== "barrier" || entry.barrier.checkpointId > checkpointId,
    );
    this.#marks -= before - this.#entries.length;
  }

  /** A bundle that took so many released entries has committed, or they are held elsewhere. */
  committed(releasedCount: number): void {
    for (let left = releasedCount; left > 0;) {
      const [batch] = this.#batches;
      if (batch === undefined) return;
      const done = Math.min(left, batch.count);
      left -= done;
      batch.count -= done;
      if (batch.count === 0) this.#batches.shift();
    }
  }
}
