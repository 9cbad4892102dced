/**
 * A task's rows under a byte budget: hot ones in Maps, cold ones in a SQLite file. As long as everything fits no file is
 * touched. Changes since the last freeze are collected by reference, so that a freeze is a swap of Maps.
 *
 * How rows become cold: each table has a young and an old Map. What is read in the old one moves to the young one;
 * rows leave from the old one; when it is empty the young one takes its place. So a row leaves when it was not used for
 * one turn at least (a clock with one bit).
 *
 * Invariants: a row in a Map is newer than, or the same as, the file's; the file changes only when rows leave; memory
 * is the budget and what arrives before `relief` is awaited, but never more than HARD_LIMIT of it, unless the disk is
 * full: then `relief` waits for room.
 */
import { assert } from "../../base/assert.ts";
import { type DiskRoom, diskRoom } from "../disk-room.ts";
import { nextTurn } from "./next-turn.ts";
import type { StateRows, StateTable } from "../state-rows.ts";
import { ColdRows } from "./cold-rows.ts";
import type { RowKeys } from "./delta-run.ts";
import { SqliteTable } from "./sqlite-table.ts";
import { StateDelta, type TableChanges } from "./state-delta.ts";

export interface SqliteRowsInit {
  /** Where the file goes, if there has to be one. It is made if it is not there. */
  readonly directory: string;
  /** Begins the file's name. */
  readonly label: string;
  readonly memoryBytes: number;
  /** False for a job without checkpoints: there is nothing to freeze then, and changes cost nothing. */
  readonly tracksChanges: boolean;
  /** Default: that of the process. */
  readonly room?: DiskRoom;
}

/** Where eviction stops: so that it is not needed again with the next row. */
const RELIEVED_FRACTION = 0.9;
/** Past it a put evicts by itself. */
const HARD_LIMIT = 1.25;
/** One slice of eviction, a few milliseconds. */
const SLICE_ROWS = 500;
const SLICE_BYTES = 2 * 1024 * 1024;
/** So much room the disk has to have for a slice: half a slice of changes must not be all that gets there. */
const SLICE_ROOM_BYTES = 4 * SLICE_BYTES;
/** Rows that are marked as changed, or restored, between two turns of the event loop. */
const MARKED_PER_TURN = 5_000;

export class SqliteRows implements StateRows {
  readonly #init: SqliteRowsInit;
  readonly #cold: ColdRows;
  readonly #tables = new Map<string, SqliteTable>();
  readonly #memory = { usedBytes: 0 };
  readonly #frozen = new Set<StateDelta>();
  #relief: Promise<void> | undefined;
  #freezeCount = 0;
  /** Every row that there is is among the changes. */
  #allChanged = true;
  readonly #closed = new AbortController();

  constructor(init: SqliteRowsInit) {
    this.#init = init;
    this.#cold = new ColdRows(init.directory, init.label);
  }

  table(name: string): StateTable {
    return this.#table(name);
  }

  #table(name: string): SqliteTable {
    let table = this.#tables.get(name);
    if (table === undefined) {
      table = new SqliteTable({
        name,
        number: this.#tables.size,
        cold: this.#cold,
        memory: this.#memory,
        tracksChanges: this.#init.tracksChanges,
        onGrown: () => {
          if (this.#memory.usedBytes > this.#init.memoryBytes * HARD_LIMIT && this.#hasRoom()) this.#evictSlice();
        },
      });
      this.#tables.set(name, table);
    }
    return table;
  }

  get tableNames(): readonly string[] {
    return [...this.#tables.keys()];
  }

  /** Bytes of rows in memory, with what they cost beside their bytes. */
  get usedBytes(): number {
    return this.#memory.usedBytes;
  }

  /** The file of cold rows; undefined as long as everything fits into memory. */
  get filePath(): string | undefined {
    return this.#cold.path;
  }

  /**
   * Undefined when the budget is kept. Else a promise that resolves when it is again: await it between two bundles.
   * @throws (rejects) WeirError when the disk refuses.
   */
  relief(): Promise<void> | undefined {
    if (this.#memory.usedBytes <= this.#init.memoryBytes) return undefined;
    this.#relief ??= this.#relieve().finally(() => {
      this.#relief = undefined;
    });
    return this.#relief;
  }

  async #relieve(): Promise<void> {
    const { directory, room = diskRoom } = this.#init;
    while (!this.#isClosed) {
      try {
        if (!this.#hasRoom()) await room.available(directory, SLICE_ROOM_BYTES, this.#closed.signal);
      } catch (failure) {
        if (this.#isClosed) return;
        throw failure;
      }
      if (!this.#evictSlice()) return;
      await nextTurn();
    }
  }

  #hasRoom(): boolean {
    const { directory, room = diskRoom } = this.#init;
    return room.hasRoom(directory, SLICE_ROOM_BYTES);
  }

  get #isClosed(): boolean {
    return this.#closed.signal.aborted;
  }

  /** @returns false when there is nothing more to do. */
  #evictSlice(): boolean {
    const goalBytes = this.#init.memoryBytes * RELIEVED_FRACTION;
    const mayFreeBytes = Math.min(this.#memory.usedBytes - goalBytes, SLICE_BYTES);
    if (mayFreeBytes <= 0) return false;
    const stopBytes = this.#memory.usedBytes - mayFreeBytes;
    let leftRows = SLICE_ROWS;
    let ranOut = false;
    this.#cold.change((write) => {
      for (let round = 0; round < 2; round++) {
        for (const table of this.#tables.values())
          while (leftRows > 0 && this.#memory.usedBytes > stopBytes && table.evictOne(write, this.#frozen)) leftRows--;
        for (const table of this.#tables.values()) table.turn();
        if (leftRows === 0 || this.#memory.usedBytes <= stopBytes) return;
        // The old rows ran out: those that are now old get time to be used, unless the budget is passed already.
        ranOut = this.#memory.usedBytes <= this.#init.memoryBytes;
        if (ranOut) return;
      }
    });
    return !ranOut && this.#memory.usedBytes > goalBytes && leftRows < SLICE_ROWS;
  }

  /**
   * Takes what has changed since the last freeze, in one step. The delta is read while the task goes on, and released.
   * Needs `tracksChanges`.
   */
  freeze(checkpointId: number): StateDelta {
    assert(this.#init.tracksChanges, "only rows that track their changes can be frozen");
    const tables: TableChanges[] = [];
    for (const table of this.#tables.values()) {
      const changes = table.takeChanges();
      if (changes.size > 0) tables.push({ table: table.name, changes, readCold: (key: string) => table.readCold(key) });
    }
    const delta: StateDelta = new StateDelta(checkpointId, this.#allChanged, tables, () => this.#frozen.delete(delta));
    this.#frozen.add(delta);
    this.#allChanged = false;
    this.#freezeCount++;
    return delta;
  }

  /**
   * Makes every row part of the next delta, which is then a base: to end a long chain of deltas. Runs in slices.
   * @returns false when a freeze came in between: nothing is lost, but the next delta is none.
   */
  async markAllChanged(): Promise<boolean> {
    assert(this.#init.tracksChanges, "only rows that track their changes can be marked as changed");
    const freezeCount = this.#freezeCount;
    for (const table of [...this.#tables.values()]) {
      const marking = table.markAllChanged(MARKED_PER_TURN);
      try {
        while (!marking.next().done) {
          await nextTurn();
          if (this.#isClosed || this.#freezeCount !== freezeCount) return false;
        }
      } finally {
        marking.return();
      }
    }
    this.#allChanged = true;
    return true;
  }

  /**
   * Makes some rows part of the next delta as they are then, those that are gone too. Runs in slices.
   * @returns false when a freeze came in between: nothing is lost, but no delta has all of them
   */
  async markChanged(keys: RowKeys): Promise<boolean> {
    assert(this.#init.tracksChanges, "only rows that track their changes can be marked as changed");
    const freezeCount = this.#freezeCount;
    let left = MARKED_PER_TURN;
    for (const [name, keysOfTable] of keys) {
      const table = this.#table(name);
      for (const key of keysOfTable) {
        table.markChanged(key);
        if (--left > 0) continue;
        left = MARKED_PER_TURN;
        await nextTurn();
        if (this.#isClosed || this.#freezeCount !== freezeCount) return false;
      }
    }
    return true;
  }

  /**
   * Puts in a row of a snapshot, or takes it out again. Before the first freeze.
   * @param asChange false when the snapshot's files stay part of the task's chain: the row is no change then
   */
  restoreRow(tableName: string, key: string, value: Uint8Array | undefined, asChange: boolean): void {
    const table = this.#table(tableName);
    table.restore(key, value, asChange);
    if (!asChange) this.#allChanged = false;
  }

  /** Drops all rows and removes the file. Deltas that are not written are lost. Idempotent. */
  close(): void {
    this.#closed.abort();
    this.#frozen.clear();
    this.#tables.clear();
    this.#memory.usedBytes = 0;
    this.#cold.close();
  }
}
