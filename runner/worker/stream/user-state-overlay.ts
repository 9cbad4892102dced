/**
 * A bundle's view of a table: its own writes over the committed rows. Nothing reaches the table before `commit`.
 */
import type { StateTable } from "../../state/state-rows.ts";

export class TableOverlay implements StateTable {
  readonly #base: StateTable;
  /** Null for rows that the bundle has deleted. */
  readonly #writes = new Map<string, Uint8Array | null>();

  constructor(base: StateTable) {
    this.#base = base;
  }

  get(key: string): Uint8Array | undefined {
    const written = this.#writes.get(key);
    if (written !== undefined) return written ?? undefined;
    return this.#base.get(key);
  }

  put(key: string, value: Uint8Array): void {
    this.#writes.set(key, value);
  }

  delete(key: string): void {
    this.#writes.set(key, null);
  }

  *entries(): Iterable<readonly [key: string, value: Uint8Array]> {
    for (const entry of this.#base.entries()) if (!this.#writes.has(entry[0])) yield entry;
    for (const [key, value] of this.#writes) if (value !== null) yield [key, value];
  }

  /** Writes through, in one synchronous step. Called at most once. */
  commit(): void {
    for (const [key, value] of this.#writes) {
      if (value !== null) this.#base.put(key, value);
      else this.#base.delete(key);
    }
  }
}
