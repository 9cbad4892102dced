/**
 * The snapshot files that a restore of one task needs: a base, and the deltas since. Each checkpoint adds one file;
 * when the chain has become long, all rows are marked as changed, so that the next file is a base again.
 *
 * Invariants: files are written one after the other, in the order of the freezes; changes whose file could not be
 * written are in the next one. Files that are not needed any more are not removed here: older checkpoints name them.
 */
import { crashPoint } from "../../base/crash-points.ts";
import { join } from "node:path";
import { type SnapshotFileInfo, writeSnapshotFile } from "./snapshot-file.ts";
import type { SqliteRows } from "./sqlite-rows.ts";
import type { ChangedRow, StateDelta } from "./state-delta.ts";

export interface SnapshotChainInit {
  readonly rows: SqliteRows;
  readonly directory: string;
  /** Begins the files' names; never the same for two tasks, nor for two execution attempts. */
  readonly label: string;
  /** The files that the rows were restored from, oldest first, where they go on being part of the chain. */
  readonly restoredFrom?: readonly SnapshotFileInfo[];
  /** Takes a written file to where it stays; it is no longer needed in `directory` then. Default: it stays there. */
  readonly store?: (file: SnapshotFileInfo) => Promise<SnapshotFileInfo>;
  /** More files than these: the next one is to be a base. */
  readonly maxFiles?: number;
}

/** A checkpoint's part that is frozen and not written yet. */
export interface PendingSnapshot {
  /**
   * Writes it, once.
   * @returns what a restore needs, oldest first. @throws WeirError naming the file; the next snapshot has it all then.
   */
  write(): Promise<readonly SnapshotFileInfo[]>;
}

const DEFAULT_MAX_FILES = 16;
/** Deltas together this many times the base: a base costs less to restore. */
const MAX_DELTAS_PER_BASE = 2;
const SMALL_CHAIN_BYTES = 1024 * 1024;

export class SnapshotChain {
  readonly #init: SnapshotChainInit;
  readonly #maxFiles: number;
  #files: readonly SnapshotFileInfo[];
  /** Frozen, and not in any file yet; oldest first. */
  #unwritten: StateDelta[] = [];
  #writing: Promise<unknown> = Promise.resolve();
  #marking: Promise<unknown> | undefined;

  constructor(init: SnapshotChainInit) {
    this.#init = init;
    this.#files = init.restoredFrom ?? [];
    this.#maxFiles = init.maxFiles ?? DEFAULT_MAX_FILES;
    // A task that is restored again and again would never come to its next base.
    if (this.#isLong()) this.#markAllChanged();
  }

  /** Freezes the rows, in one step. */
  freeze(checkpointId: number): PendingSnapshot {
    const delta = this.#init.rows.freeze(checkpointId);
    this.#unwritten.push(delta);
    return {
      write: () => {
        const written = this.#writing.then(() => this.#write(delta));
        this.#writing = written.catch(() => undefined);
        return written;
      },
    };
  }

  async #write(delta: StateDelta): Promise<readonly SnapshotFileInfo[]> {
    // Later freezes stay what they are; earlier ones that have no file go into this one.
    const deltas = this.#unwritten.slice(0, this.#unwritten.indexOf(delta) + 1);
    if (deltas.length === 0) return this.#files;
    const isBase = deltas.some((each) => each.isBase);
    const { directory, label } = this.#init;
    const name = `${label}-${delta.checkpointId}.${isBase ? "base" : "delta"}`;
    const header = { isBase, checkpointId: delta.checkpointId };
    let file: SnapshotFileInfo;
    try {
      const written = await writeSnapshotFile(join(directory, name), header, newestRows(deltas));
      if (isBase && this.#files.length > 0) crashPoint("during-compaction");
      file = (await this.#init.store?.(written)) ?? written;
    } catch (failure) {
      this.#keepForNext(deltas);
      throw failure;
    }
    this.#unwritten = this.#unwritten.slice(deltas.length);
    for (const each of deltas) each.release();
    this.#files = isBase ? [file] : [...this.#files, file];
    if (this.#isLong()) this.#markAllChanged();
    return this.#files;
  }

  /** As one: of a store that is down for long, each row is kept once. */
  #keepForNext([oldest, ...later]: readonly StateDelta[]): void {
    for (const each of later) oldest?.absorb(each);
    this.#unwritten = this.#unwritten.filter((each) => !later.includes(each));
  }

  #markAllChanged(): void {
    this.#marking ??= this.#init.rows.markAllChanged().finally(() => (this.#marking = undefined));
  }

  #isLong(): boolean {
    const [base, ...deltas] = this.#files;
    const deltaBytes = deltas.reduce((sum, file) => sum + file.byteLength, 0);
    if (this.#files.length > this.#maxFiles) return true;
    return deltaBytes > Math.max(SMALL_CHAIN_BYTES, MAX_DELTAS_PER_BASE * (base?.byteLength ?? 0));
  }

  /** Resolves when nothing is being written or marked. */
  async settled(): Promise<void> {
    await this.#writing;
    await this.#marking;
  }
}

/** The rows of all deltas, of each row the newest state. */
function* newestRows(deltas: readonly StateDelta[]): Iterable<ChangedRow> {
  for (const [index, delta] of deltas.entries()) {
    const later = deltas.slice(index + 1);
    if (later.length === 0) yield* delta.rows();
    else for (const row of delta.rows()) if (!later.some((each) => each.has(row.table, row.key))) yield row;
  }
}
