/**
 * Main input of a stage that requires it stable: it waits as rows until a complete checkpoint contains them, so that
 * after a recovery the stage is given the very same elements again.
 *
 * Invariants: what is restored was in a complete checkpoint, and may run at once. What waits holds the watermark; what
 * was taken out is the caller's to hold, and to commit before the next barrier.
 * Source: beam:requirement:pardo:stable_input:v1; section 4 of the design.
 */
import type { Chunk } from "../../base/chunk.ts";
import type { StateTable } from "../../state/state-rows.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { type HeldChunk, PushedBackInput } from "./pushed-back-input.ts";

export class StableInput {
  readonly #rows: PushedBackInput;
  /** Rows behind the last barrier come after these many, by barrier. */
  readonly #countAt = new Map<number, number>();
  /** Rows from the oldest on that are in a complete checkpoint. */
  #stableCount: number;

  /** @param idPrefix unique over the job's subtasks and execution attempts */
  constructor(table: StateTable, idPrefix: string) {
    this.#rows = new PushedBackInput(table, idPrefix);
    this.#stableCount = this.#rows.count;
  }

  get count(): number {
    return this.#rows.count;
  }

  get hold(): Timestamp {
    return this.#rows.count === 0 ? MAX_TIMESTAMP : this.#rows.hold;
  }

  add(chunk: Chunk, hold: Timestamp): void {
    this.#rows.add(chunk, hold);
  }

  /** The rows will be frozen now. */
  barrier(checkpointId: number): void {
    this.#countAt.set(checkpointId, this.#rows.count);
  }

  /** Checkpoints that were given up are covered by the next one. */
  complete(checkpointId: number): void {
    const count = this.#countAt.get(checkpointId);
    for (const id of this.#countAt.keys()) if (id <= checkpointId) this.#countAt.delete(id);
    if (count !== undefined && count > this.#stableCount) this.#stableCount = count;
  }

  /** Takes out what is stable, oldest first. */
  takeStable(): HeldChunk[] {
    const count = this.#stableCount;
    if (count === 0) return [];
    this.#stableCount = 0;
    for (const [id, atBarrier] of this.#countAt) this.#countAt.set(id, Math.max(0, atBarrier - count));
    return [...this.#rows.take(count)];
  }
}
