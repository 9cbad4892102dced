/**
 * Main input that waits for a side input's window: uncommitted input as rows, so that it can be larger than memory
 * and is part of every snapshot.
 *
 * Invariant: each chunk holds the output watermark back until it is taken out.
 */
import type { Chunk } from "../../base/chunk.ts";
import { NO_KEY_GROUP, type StateTable } from "../../state/state-rows.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";

/** hold (float64), element count (uint32), then the elements. */
const HEADER_BYTES = 12;

export interface HeldChunk {
  readonly chunk: Chunk;
  readonly hold: Timestamp;
}

export class PushedBackInput {
  readonly #table: StateTable;
  readonly #idPrefix: string;
  /** Row keys in order of arrival, with their holds. */
  readonly #holds = new Map<string, Timestamp>();
  /** Of all that wait; undefined: to be found again. */
  #least: Timestamp | undefined;
  #nextId = 0;

  /** @param idPrefix unique over the job's subtasks and execution attempts */
  constructor(table: StateTable, idPrefix: string) {
    this.#table = table;
    this.#idPrefix = idPrefix;
    for (const [rowKey, value] of table.entries()) this.#holds.set(rowKey, viewOf(value).getFloat64(0) as Timestamp);
  }

  get count(): number {
    return this.#holds.size;
  }

  get hold(): Timestamp {
    if (this.#least === undefined) {
      this.#least = MAX_TIMESTAMP;
      for (const hold of this.#holds.values()) if (hold < this.#least) this.#least = hold;
    }
    return this.#least;
  }

  add(chunk: Chunk, hold: Timestamp): void {
    const rowKey = `${NO_KEY_GROUP}${this.#idPrefix}-${this.#nextId++}`;
    this.#table.put(rowKey, rowOfChunk(chunk, hold));
    this.#holds.set(rowKey, hold);
    if (this.#least !== undefined && hold < this.#least) this.#least = hold;
  }

  /** Takes out everything, oldest first. */
  takeAll(): Generator<HeldChunk> {
    return this.take(this.#holds.size);
  }

  /** Takes out so many chunks, oldest first. */
  *take(count: number): Generator<HeldChunk> {
    const taken = [...this.#holds].slice(0, count);
    for (const [rowKey] of taken) this.#holds.delete(rowKey);
    this.#least = undefined;
    for (const [rowKey, hold] of taken) {
      const row = this.#table.get(rowKey);
      if (row === undefined) continue;
      this.#table.delete(rowKey);
      yield { ...chunkOfRow(row), hold };
    }
  }
}

export function rowOfChunk(chunk: Chunk, hold: Timestamp): Uint8Array {
  const row = new Uint8Array(HEADER_BYTES + chunk.data.length);
  const view = viewOf(row);
  view.setFloat64(0, hold);
  view.setUint32(8, chunk.elementCount);
  row.set(chunk.data, HEADER_BYTES);
  return row;
}

/** A view into the row. */
export function chunkOfRow(row: Uint8Array): HeldChunk {
  const view = viewOf(row);
  return {
    chunk: { data: row.subarray(HEADER_BYTES), elementCount: view.getUint32(8) },
    hold: view.getFloat64(0) as Timestamp,
  };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
