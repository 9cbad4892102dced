/**
 * The main input of a stage that no bundle has taken yet: chunks with watermark and barrier marks between them, in the
 * order in which the head gave them.
 *
 * Invariants: a mark at the front means that everything before it was taken. Input that had waited for a side input is
 * released to the front, and holds the output watermark until the bundle that takes it has committed.
 */
import type { Chunk } from "../../base/chunk.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { cutChunks } from "../task/bundle-input.ts";
import type { Barrier } from "./channel-queue.ts";

export type StageMark =
  | { readonly kind: "watermark"; readonly timestamp: Timestamp }
  | { readonly kind: "barrier"; readonly barrier: Barrier };

type Entry = { readonly kind: "data"; readonly chunk: Chunk; readonly released: boolean } | StageMark;

export interface TakenInput {
  readonly chunks: readonly Chunk[];
  /** Entries among them that had waited for side inputs: to be given back to `committed`. */
  readonly releasedCount: number;
}

export class StageQueue {
  readonly #skip: Skip;
  #entries: Entry[] = [];
  #bytes = 0;
  #releasedCount = 0;
  #releasedHold: Timestamp = MAX_TIMESTAMP;

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

  /** Of input that had waited for side inputs and has not committed since; MAX_TIMESTAMP when there is none. */
  get releasedHold(): Timestamp {
    return this.#releasedHold;
  }

  get front(): Entry | undefined {
    return this.#entries[0];
  }

  data(chunk: Chunk): void {
    this.#entries.push({ kind: "data", chunk, released: false });
    this.#bytes += chunk.data.length;
  }

  mark(mark: StageMark): void {
    this.#entries.push(mark);
  }

  /** Takes the front, whatever it is. */
  shift(): void {
    const front = this.#entries.shift();
    if (front?.kind === "data") this.#bytes -= front.chunk.data.length;
  }

  /** Puts input to the front that has waited for side inputs. */
  release(input: readonly { readonly chunk: Chunk; readonly hold: Timestamp }[]): void {
    for (const { chunk, hold } of input) {
      this.#bytes += chunk.data.length;
      this.#releasedCount++;
      if (hold < this.#releasedHold) this.#releasedHold = hold;
    }
    this.#entries = [...input.map(({ chunk }): Entry => ({ kind: "data", chunk, released: true })), ...this.#entries];
  }

  /**
   * Takes elements from the front up to the next mark or the limits.
   * @param divide what of a chunk may run now; undefined: all of every chunk
   */
  take(
    limits: { readonly maxElements: number; readonly maxBytes: number },
    divide: ((chunk: Chunk) => Chunk | undefined) | undefined,
  ): TakenInput {
    const chunks: Chunk[] = [];
    let elements = 0;
    let bytes = 0;
    let releasedCount = 0;
    let taken = 0;
    for (; taken < this.#entries.length; taken++) {
      const entry = this.#entries[taken] as Entry;
      if (entry.kind !== "data" || elements >= limits.maxElements || bytes >= limits.maxBytes) break;
      this.#bytes -= entry.chunk.data.length;
      const chunk = divide === undefined || entry.released ? entry.chunk : divide(entry.chunk);
      if (chunk === undefined) continue;
      if (elements + chunk.elementCount > limits.maxElements) {
        const { head, tail } = cutChunks([chunk], limits.maxElements - elements, this.#skip);
        const rest = tail[0];
        if (rest !== undefined) {
          this.#entries[taken] = { kind: "data", chunk: rest, released: entry.released };
          this.#bytes += rest.data.length;
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

  /** A bundle that took so many released entries has committed. */
  committed(releasedCount: number): void {
    this.#releasedCount -= releasedCount;
    if (this.#releasedCount === 0) this.#releasedHold = MAX_TIMESTAMP;
  }
}
