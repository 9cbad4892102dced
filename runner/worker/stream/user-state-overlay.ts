/**
 * A bundle's view of its tables: its own writes over the committed rows. Nothing reaches a table before `commit`.
 *
 * Writes are in memory up to a budget that all tables of the bundle share; past it all of them go to scratch rows, which
 * keep what was used last in memory and the rest on disk.
 */
import type { ScratchRows, ScratchSpace, StateTable } from "../../state/state-rows.ts";

export class BundleWrites {
  readonly #space: ScratchSpace | undefined;
  readonly #tables: TableOverlay[] = [];
  /** Of rows in memory here. */
  #bytes = 0;
  #writtenBytes = 0;
  #scratch: ScratchRows | undefined;

  /** @param space undefined: all of it is in memory */
  constructor(space: ScratchSpace | undefined) {
    this.#space = space;
  }

  over(base: StateTable): TableOverlay {
    const number = this.#tables.length;
    const overlay = new TableOverlay(base, (grownBytes, writtenBytes) => {
      this.#writtenBytes += writtenBytes;
      this.#bytes += grownBytes;
      if (this.#space !== undefined && this.#bytes > this.#space.memoryBytes) this.#spill(this.#space);
    });
    this.#tables[number] = overlay;
    if (this.#scratch !== undefined) overlay.moveTo(this.#scratch.table(String(number)));
    return overlay;
  }

  /** So far, rows that were written over included. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  #spill(space: ScratchSpace): void {
    const scratch = (this.#scratch ??= space.open());
    this.#tables.forEach((overlay, number) => overlay.moveTo(scratch.table(String(number))));
  }

  /** To be awaited before the bundle writes more. @throws (rejects) WeirError when the disk refuses */
  relief(): Promise<void> | undefined {
    return this.#scratch?.relief();
  }

  /** What was not committed is gone. Idempotent. */
  close(): void {
    this.#scratch?.close();
  }
}

/** What a row costs beside its value. */
const ROW_OVERHEAD_BYTES = 100;

export class TableOverlay implements StateTable {
  readonly #base: StateTable;
  readonly #onPut: (grownBytes: number, writtenBytes: number) => void;
  /** Null for rows that the bundle has deleted. Where there are scratch rows the others are there. */
  readonly #writes = new Map<string, Uint8Array | null>();
  #scratch: StateTable | undefined;

  /** @param onPut told how much more is in memory, and how much was written; may move it to scratch rows */
  constructor(base: StateTable, onPut: (grownBytes: number, writtenBytes: number) => void) {
    this.#base = base;
    this.#onPut = onPut;
  }

  get(key: string): Uint8Array | undefined {
    const written = this.#writes.get(key);
    if (written !== undefined) return written ?? undefined;
    return this.#scratch?.get(key) ?? this.#base.get(key);
  }

  put(key: string, value: Uint8Array): void {
    const cost = value.length + key.length + ROW_OVERHEAD_BYTES;
    if (this.#scratch !== undefined) {
      this.#writes.delete(key);
      this.#scratch.put(key, value);
      this.#onPut(0, cost);
      return;
    }
    const before = this.#writes.get(key);
    this.#writes.set(key, value);
    this.#onPut(before ? value.length - before.length : cost, cost);
  }

  delete(key: string): void {
    this.#writes.set(key, null);
    this.#scratch?.delete(key);
  }

  *entries(): Iterable<readonly [key: string, value: Uint8Array]> {
    for (const entry of this.#base.entries())
      if (!this.#writes.has(entry[0]) && this.#scratch?.get(entry[0]) === undefined) yield entry;
    for (const [key, value] of this.#writes) if (value !== null) yield [key, value];
    if (this.#scratch !== undefined) yield* this.#scratch.entries();
  }

  /** Its writes are there from now on. */
  moveTo(scratch: StateTable): void {
    if (this.#scratch !== undefined) return;
    this.#scratch = scratch;
    for (const [key, value] of this.#writes) {
      if (value === null) continue;
      this.#writes.delete(key);
      scratch.put(key, value);
    }
  }

  /** Writes through, in one synchronous step. Called at most once. */
  commit(): void {
    for (const [key, value] of this.#writes) {
      if (value !== null) this.#base.put(key, value);
      else this.#base.delete(key);
    }
    if (this.#scratch !== undefined) for (const [key, value] of this.#scratch.entries()) this.#base.put(key, value);
  }
}
