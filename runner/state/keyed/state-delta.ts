/**
 * What has changed in a task's rows between two freezes: the content of one incremental snapshot file.
 *
 * Invariants: after the freeze it never changes in meaning, unless it takes in the one after it, whatever the task goes
 * on to do: values are immutable, and one that lies in the task's file only is fetched before it is overwritten there.
 */

/** A changed row; a value of undefined says that the row is gone. */
export interface ChangedRow {
  readonly table: string;
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/** In the place of a value that lies in the task's SQLite file. */
export const COLD = Symbol("cold");

/** By row key; null for a row that is gone. */
export type Changes = Map<string, Uint8Array | null | typeof COLD>;

/** A table's part of a delta. */
export interface TableChanges {
  readonly table: string;
  readonly changes: Changes;
  /** Reads a value that is `COLD`. */
  readCold(key: string): Uint8Array;
}

export class StateDelta {
  readonly checkpointId: number;
  readonly #tables: TableChanges[];
  #isBase: boolean;
  readonly #onRelease: () => void;

  constructor(checkpointId: number, isBase: boolean, tables: readonly TableChanges[], onRelease: () => void) {
    this.checkpointId = checkpointId;
    this.#isBase = isBase;
    this.#tables = [...tables];
    this.#onRelease = onRelease;
  }

  /** True when it holds every row that there is: it can be restored without those before it. */
  get isBase(): boolean {
    return this.#isBase;
  }

  get tables(): readonly TableChanges[] {
    return this.#tables;
  }

  /** Takes in the one that came after it, which is of no use then: of a row that is in both, the later state stays. */
  absorb(later: StateDelta): void {
    for (const part of later.tables) {
      const own = this.#tables.find(({ table }) => table === part.table);
      if (own === undefined) this.#tables.push(part);
      else for (const [key, change] of part.changes) own.changes.set(key, change);
    }
    this.#isBase ||= later.isBase;
    later.release();
  }

  get rowCount(): number {
    return this.tables.reduce((sum, { changes }) => sum + changes.size, 0);
  }

  /** All changed rows, table by table; may be read in slices while the task goes on. */
  *rows(): Iterable<ChangedRow> {
    for (const { table, changes, readCold } of this.tables)
      for (const [key, change] of changes)
        yield { table, key, value: change === COLD ? readCold(key) : (change ?? undefined) };
  }

  /** True when the row is in it, changed or gone. */
  has(table: string, key: string): boolean {
    return this.tables.some((part) => part.table === table && part.changes.has(key));
  }

  /** It is written, or not needed: it must not be read any more. Idempotent. */
  release(): void {
    this.#onRelease();
  }
}
