/**
 * Rows that do not fit into memory, in a SQLite file of their own. It is no durable store: after a crash state comes
 * from a snapshot, so nothing here is journaled or synced.
 *
 * Invariants: the file exists only once a row has been written; it belongs to one task and is removed by `close`.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { randomHex } from "../../base/clock.ts";
import { spillFailure } from "../spill-failure.ts";

type Key = Buffer;

interface OpenFile {
  readonly path: string;
  readonly database: Database.Database;
  readonly begin: Database.Statement<[]>;
  readonly commit: Database.Statement<[]>;
  readonly read: Database.Statement<[number, Key], Buffer>;
  readonly has: Database.Statement<[number, Key], number>;
  readonly write: Database.Statement<[number, Key, Uint8Array]>;
  readonly remove: Database.Statement<[number, Key]>;
  readonly from: Database.Statement<[number, Key, number], { readonly k: Buffer; readonly v: Buffer }>;
  readonly after: Database.Statement<[number, Key, number], { readonly k: Buffer; readonly v: Buffer }>;
  readonly keysFrom: Database.Statement<[number, Key, number], Buffer>;
  readonly keysAfter: Database.Statement<[number, Key, number], Buffer>;
}

const PAGE_BYTES = 16_384;
/** Pages that SQLite keeps in memory; the hot rows are kept by us. */
const PAGE_CACHE_KIB = 4096;

export class ColdRows {
  readonly #directory: string;
  readonly #label: string;
  #file: OpenFile | undefined;
  #closed = false;

  /** @param label begins the file's name. */
  constructor(directory: string, label: string) {
    this.#directory = directory;
    this.#label = label;
  }

  /** The file, once there is one. */
  get path(): string | undefined {
    return this.#file?.path;
  }

  /** The caller owns what it gets. */
  read(table: number, key: string): Uint8Array | undefined {
    return this.#file?.read.get(table, Buffer.from(key, "latin1"));
  }

  /** Without reading its value. */
  has(table: number, key: string): boolean {
    return this.#file?.has.get(table, Buffer.from(key, "latin1")) !== undefined;
  }

  /** Runs writes and removals as one transaction. @throws WeirError when the disk refuses; the file is of no use then. */
  change(writes: (write: (table: number, key: string, value: Uint8Array | null) => void) => void): void {
    try {
      this.#file ??= this.#open();
      const file = this.#file;
      file.begin.run();
      writes((table, key, value) => {
        const bytes = Buffer.from(key, "latin1");
        if (value === null) file.remove.run(table, bytes);
        else file.write.run(table, bytes, value);
      });
      file.commit.run();
    } catch (failure) {
      throw spillFailure(failure, this.#directory, "write state");
    }
  }

  /** Up to `limit` rows of a table in key order, behind a key or from the first one on. */
  rows(table: number, after: string | undefined, limit: number): readonly (readonly [string, Uint8Array])[] {
    const statement = after === undefined ? this.#file?.from : this.#file?.after;
    const rows = statement?.all(table, Buffer.from(after ?? "", "latin1"), limit) ?? [];
    return rows.map(({ k, v }) => [k.toString("latin1"), v]);
  }

  /** As `rows`, without the values. */
  keys(table: number, after: string | undefined, limit: number): readonly string[] {
    const statement = after === undefined ? this.#file?.keysFrom : this.#file?.keysAfter;
    return (statement?.all(table, Buffer.from(after ?? "", "latin1"), limit) ?? []).map((k) => k.toString("latin1"));
  }

  #open(): OpenFile {
    if (this.#closed) throw new Error("the task's state is closed");
    mkdirSync(this.#directory, { recursive: true });
    const path = join(this.#directory, `${this.#label}-${randomHex(8)}.sqlite`);
    const database = new Database(path);
    // With 4 KiB a row of more than 1 KiB takes a page of its own beside its place in the tree.
    database.pragma(`page_size = ${PAGE_BYTES}`);
    // Without it OFF is passed over in silence, and each page is written twice.
    database.unsafeMode(true);
    database.pragma("journal_mode = OFF");
    database.unsafeMode(false);
    database.pragma("synchronous = OFF");
    database.pragma("locking_mode = EXCLUSIVE");
    database.pragma(`cache_size = -${PAGE_CACHE_KIB}`);
    database.exec("CREATE TABLE rows (t INTEGER, k BLOB, v BLOB, PRIMARY KEY (t, k)) WITHOUT ROWID");
    const page = (columns: string, comparison: string) =>
      database.prepare(`SELECT ${columns} FROM rows WHERE t = ? AND k ${comparison} ? ORDER BY k LIMIT ?`);
    return {
      path,
      database,
      begin: database.prepare("BEGIN"),
      commit: database.prepare("COMMIT"),
      read: database.prepare("SELECT v FROM rows WHERE t = ? AND k = ?").pluck() as OpenFile["read"],
      has: database.prepare("SELECT 1 FROM rows WHERE t = ? AND k = ?").pluck() as OpenFile["has"],
      write: database.prepare("INSERT INTO rows (t, k, v) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET v = excluded.v"),
      remove: database.prepare("DELETE FROM rows WHERE t = ? AND k = ?"),
      from: page("k, v", ">=") as OpenFile["from"],
      after: page("k, v", ">") as OpenFile["after"],
      keysFrom: page("k", ">=").pluck() as OpenFile["keysFrom"],
      keysAfter: page("k", ">").pluck() as OpenFile["keysAfter"],
    };
  }

  /** Removes the file. Idempotent. */
  close(): void {
    this.#closed = true;
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    file.database.close();
    rmSync(file.path, { force: true });
  }
}
