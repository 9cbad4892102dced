/** One table of SqliteRows, which says how its parts work together. */
import { present } from "../../base/assert.ts";
import type { StateTable } from "../state-rows.ts";
import type { ColdRows } from "./cold-rows.ts";
import { type Changes, COLD, type StateDelta } from "./state-delta.ts";

export interface SqliteTableInit {
  readonly name: string;
  /** In the file. */
  readonly number: number;
  readonly cold: ColdRows;
  /** Of all tables together. */
  readonly memory: { usedBytes: number };
  readonly tracksChanges: boolean;
  /** After a row was put in. */
  onGrown(): void;
}

/** Null for a row that is gone while the file may still have it. */
type HotRows = Map<string, Uint8Array | null>;

type WriteCold = (table: number, key: string, value: Uint8Array | null) => void;

/** What a row costs beside its bytes: the entry, the string, the array, its share in the changes. */
const ROW_OVERHEAD_BYTES = 200;
const COLD_ROWS_PER_READ = 500;

export class SqliteTable implements StateTable {
  readonly name: string;
  readonly #number: number;
  readonly #cold: ColdRows;
  readonly #memory: { usedBytes: number };
  readonly #onGrown: () => void;
  #young: HotRows = new Map();
  #old: HotRows = new Map();
  #leaving: IterableIterator<[string, Uint8Array | null]> = this.#old.entries();
  /** Hot rows that are in the file as they are. */
  readonly #clean = new Set<string>();
  /** The file may have rows of this table. */
  #hasCold = false;
  #changes: Changes | undefined;
  #isMarking = false;

  constructor({ name, number, cold, memory, tracksChanges, onGrown }: SqliteTableInit) {
    this.name = name;
    this.#number = number;
    this.#cold = cold;
    this.#memory = memory;
    this.#onGrown = onGrown;
    this.#changes = tracksChanges ? new Map() : undefined;
  }

  get(key: string): Uint8Array | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young ?? undefined;
    if (!this.#hasCold && this.#old.size === 0) return undefined;
    const old = this.#old.get(key);
    if (old !== undefined) {
      this.#old.delete(key);
      this.#young.set(key, old);
      // It may have left the part that is still to be walked over.
      if (this.#isMarking) this.noteChange(key, old);
      return old ?? undefined;
    }
    if (!this.#hasCold) return undefined;
    const value = this.#cold.read(this.#number, key);
    if (value === undefined) return undefined;
    this.#young.set(key, value);
    this.#clean.add(key);
    this.#memory.usedBytes += costOf(key, value);
    this.#onGrown();
    return value;
  }

  put(key: string, value: Uint8Array): void {
    this.#changes?.set(key, value);
    this.#set(key, value);
  }

  delete(key: string): void {
    if (this.#hasCold) {
      this.#changes?.set(key, null);
      this.#set(key, null);
      return;
    }
    const value = this.#young.get(key) ?? this.#old.get(key);
    if (value === undefined || value === null) return;
    this.#changes?.set(key, null);
    this.#memory.usedBytes -= costOf(key, value);
    if (!this.#young.delete(key)) this.#old.delete(key);
  }

  #set(key: string, value: Uint8Array | null): void {
    let before = this.#young.get(key);
    if (before === undefined && this.#old.size > 0) {
      before = this.#old.get(key);
      if (before !== undefined) this.#old.delete(key);
    }
    this.#young.set(key, value);
    if (this.#clean.size > 0) this.#clean.delete(key);
    this.#memory.usedBytes += costOf(key, value) - (before === undefined ? 0 : costOf(key, before));
    this.#onGrown();
  }

  /** As put and delete. @param asChange false for a row that the last snapshot has. */
  restore(key: string, value: Uint8Array | undefined, asChange: boolean): void {
    const changes = this.#changes;
    if (!asChange) this.#changes = undefined;
    if (value === undefined) this.delete(key);
    else this.put(key, value);
    this.#changes = changes;
  }

  *entries(): Iterable<readonly [key: string, value: Uint8Array]> {
    // References only; so rows may move between Maps and file meanwhile.
    const hot = new Map([...this.#old, ...this.#young]);
    for (const [key, value] of hot) if (value !== null) yield [key, value];
    if (!this.#hasCold) return;
    let page = this.#cold.rows(this.#number, undefined, COLD_ROWS_PER_READ);
    while (page.length > 0) {
      for (const row of page) if (!hot.has(row[0])) yield row;
      page = this.#cold.rows(this.#number, page.at(-1)?.[0], COLD_ROWS_PER_READ);
    }
  }

  // --- memory ---

  /** Makes the oldest row cold. @returns false when the old Map is empty. */
  evictOne(write: WriteCold, frozen: Iterable<StateDelta>): boolean {
    const next = this.#leaving.next();
    if (next.done === true) return false;
    const [key, value] = next.value;
    if (!this.#clean.delete(key)) {
      for (const delta of frozen)
        for (const { table, changes, readCold } of delta.tables)
          if (table === this.name && changes.get(key) === COLD) changes.set(key, readCold(key));
      write(this.#number, key, value);
      this.#hasCold = true;
    }
    if (this.#changes !== undefined && value !== null && this.#changes.has(key)) this.#changes.set(key, COLD);
    this.#old.delete(key);
    this.#memory.usedBytes -= costOf(key, value);
    return true;
  }

  /** The young rows become the old ones, if there are none of those left. */
  turn(): void {
    if (this.#old.size > 0) return;
    this.#old = this.#young;
    this.#young = new Map();
    this.#leaving = this.#old.entries();
  }

  /** @throws Error when it is not there: a bug. */
  readCold(key: string): Uint8Array {
    return present(this.#cold.read(this.#number, key), "a cold row of a delta");
  }

  // --- changes ---

  takeChanges(): Changes {
    const changes = this.#changes ?? new Map();
    this.#changes = new Map();
    return changes;
  }

  /** A change that is older than those that are there. */
  noteChange(key: string, value: Uint8Array | null | typeof COLD): void {
    if (this.#changes !== undefined && !this.#changes.has(key)) this.#changes.set(key, value);
  }

  /** Makes a row a changed one, as it is or gone. */
  markChanged(key: string): void {
    const hot = this.#hot(key);
    if (hot !== undefined) this.noteChange(key, hot);
    else this.noteChange(key, this.#hasCold && this.#cold.has(this.#number, key) ? COLD : null);
  }

  /** In memory, where it is in one Map at most: its value, null where it is gone; undefined: it is not there. */
  #hot(key: string): Uint8Array | null | undefined {
    const young = this.#young.get(key);
    return young === undefined ? this.#old.get(key) : young;
  }

  /** Makes all rows changed ones; yields after each `count` rows. To be ended with `return`. */
  *markAllChanged(count: number): Generator<void, void> {
    let left = count;
    this.#isMarking = true;
    try {
      // Rows that move meanwhile are marked by `get`, or found in the file, since that is walked over last.
      for (const rows of [this.#old, this.#young])
        for (const [key, value] of rows) {
          this.noteChange(key, value);
          if (--left > 0) continue;
          yield;
          left = count;
        }
      let keys = this.#cold.keys(this.#number, undefined, COLD_ROWS_PER_READ);
      while (keys.length > 0) {
        for (const key of keys) {
          const hot = this.#hot(key);
          if (hot !== null) this.noteChange(key, hot ?? COLD);
        }
        yield;
        keys = this.#cold.keys(this.#number, keys.at(-1), COLD_ROWS_PER_READ);
      }
    } finally {
      this.#isMarking = false;
    }
  }
}

function costOf(key: string, value: Uint8Array | null): number {
  return ROW_OVERHEAD_BYTES + key.length + (value?.byteLength ?? 0);
}
