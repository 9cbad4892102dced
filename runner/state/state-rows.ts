/**
 * The durable rows of one streaming task: whatever must survive a crash is a row here, and nothing else is in a
 * snapshot. Components keep their own indexes in memory and rebuild them from `entries` after a restore.
 *
 * Keys are binary strings (one character per byte, as `Buffer.latin1Slice` gives them). The first two are the key
 * group, big-endian, so that rows can be given to other subtasks when the parallelism changes; rows that belong to no
 * key begin with NO_KEY_GROUP.
 */

/** A table of rows. All calls are synchronous; a put or delete is visible to the next get. */
export interface StateTable {
  /** The caller must not change what it gets. */
  get(key: string): Uint8Array | undefined;
  /** The table owns the bytes from here on: they must not be changed, nor be a view into a much larger buffer. */
  put(key: string, value: Uint8Array): void;
  delete(key: string): void;
  /** Every row, in no order; for a rebuild after a restore, not for the hot path. */
  entries(): Iterable<readonly [key: string, value: Uint8Array]>;
}

export interface StateRows {
  /** @param name part of the snapshot format: never rename one. */
  table(name: string): StateTable;
}

/** Rows that nobody restores: what a bundle has written until it commits. */
export interface ScratchRows extends StateRows {
  /** A promise to wait for while there is no room for more. @throws (rejects) WeirError when there comes none */
  relief(): Promise<void> | undefined;
  /** Drops them. Idempotent. */
  close(): void;
}

/** Where a bundle's writes go that it may not hold in memory. */
export interface ScratchSpace {
  readonly memoryBytes: number;
  open(): ScratchRows;
}

/** The first two characters of rows that are no key's. */
export const NO_KEY_GROUP = "\xff\xff";

/** The first two characters of rows of a key. */
export function keyGroupPrefix(keyGroup: number): string {
  return String.fromCharCode(keyGroup >>> 8, keyGroup & 0xff);
}

/** The key group of a key's row. */
export function keyGroupOfRow(rowKey: string): number {
  return rowKey.charCodeAt(0) * 256 + rowKey.charCodeAt(1);
}

/** Rows in plain maps, for tests. @internal */
export class MemoryRows implements StateRows {
  readonly #tables = new Map<string, Map<string, Uint8Array>>();

  table(name: string): StateTable {
    let rows = this.#tables.get(name);
    if (rows === undefined) this.#tables.set(name, (rows = new Map()));
    const table = rows;
    return {
      get: (key) => table.get(key),
      put: (key, value) => void table.set(key, value),
      delete: (key) => void table.delete(key),
      entries: () => table.entries(),
    };
  }
}
