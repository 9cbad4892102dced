/**
 * The snapshot files that a restore of one task needs: a base, and the deltas since. Each checkpoint adds one file.
 *
 * When some deltas have come together, the rows in them are marked as changed, so that the next file takes the place of
 * them all: it is folded. When the deltas are larger than the base, or files are too many all the same, all rows are
 * marked, so that the next file is a base again. So each change is written about twice, and a base seldom, and a restore
 * reads tens of files at most (as log-structured merge trees do, with two tiers).
 *
 * Invariants: files are written one after the other, in the order of the freezes; changes whose file could not be
 * written are in the next one. Files that are not needed any more are not removed here: older checkpoints name them.
 */
import { join } from "node:path";
import { crashPoint } from "../../base/crash-points.ts";
import { DeltaRun } from "./delta-run.ts";
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
  /** More deltas than these: the next one is to take their place. */
  readonly maxRun?: number;
  /** A chain that is no larger is not folded: a base costs as little. */
  readonly smallBytes?: number;
}

/** A checkpoint's part that is frozen and not written yet. */
export interface PendingSnapshot {
  /**
   * Writes it, once.
   * @returns what a restore needs, oldest first. @throws WeirError naming the file; the next snapshot has it all then.
   */
  write(): Promise<readonly SnapshotFileInfo[]>;
}

/** Files of a chain whose place one is to take. */
interface Folded {
  readonly first: number;
  readonly end: number;
}

const MAX_RUN = 16;
/** Files of a chain, in runs: each costs a restore a round trip to the store. */
const MAX_RUNS = 3;
/** Deltas together this many times the base: a base costs less to restore. */
const MAX_DELTAS_PER_BASE = 2;
const SMALL_CHAIN_BYTES = 1024 * 1024;

export class SnapshotChain {
  readonly #init: SnapshotChainInit;
  readonly #maxRun: number;
  readonly #smallBytes: number;
  #files: readonly SnapshotFileInfo[];
  /** The newest files of the chain. */
  readonly #run = new DeltaRun();
  /** Frozen, and not in any file yet; oldest first. */
  #unwritten: StateDelta[] = [];
  /** Of those, the deltas that have the rows of a run, too. */
  readonly #folding = new Map<StateDelta, Folded>();
  /** The rows of these files are marked: the next delta is to have them. */
  #marked: Folded | undefined;
  #writing: Promise<unknown> = Promise.resolve();
  #marking: Promise<unknown> | undefined;

  constructor(init: SnapshotChainInit) {
    this.#init = init;
    this.#files = init.restoredFrom ?? [];
    this.#maxRun = init.maxRun ?? MAX_RUN;
    this.#smallBytes = init.smallBytes ?? SMALL_CHAIN_BYTES;
    // A task that is restored again and again would never come to its next base.
    if (this.#needsBase()) this.#mark(() => this.#init.rows.markAllChanged());
  }

  /** Freezes the rows, in one step. */
  freeze(checkpointId: number): PendingSnapshot {
    const delta = this.#init.rows.freeze(checkpointId);
    if (this.#marked !== undefined) this.#folding.set(delta, this.#marked);
    this.#marked = undefined;
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
    const kind = isBase ? "base" : "delta";
    const name = `${label}-${delta.checkpointId}.${kind}`;
    const header = { kind, checkpointId: delta.checkpointId } as const;
    const folded = deltas.map((each) => this.#folding.get(each)).find((each) => each !== undefined);
    const rows = newestRows(deltas);
    let file: SnapshotFileInfo;
    try {
      const written = await writeSnapshotFile(join(directory, name), header, isBase ? rows : this.#run.noting(rows));
      if ((isBase && this.#files.length > 0) || folded !== undefined) crashPoint("during-compaction");
      file = (await this.#init.store?.(written)) ?? written;
    } catch (failure) {
      this.#keepForNext(deltas);
      throw failure;
    }
    this.#unwritten = this.#unwritten.slice(deltas.length);
    for (const each of deltas) {
      each.release();
      this.#folding.delete(each);
    }
    this.#written(file, isBase, folded);
    return this.#files;
  }

  #written(file: SnapshotFileInfo, isBase: boolean, folded: Folded | undefined): void {
    if (isBase) this.#files = [file];
    else if (folded === undefined) this.#files = [...this.#files, file];
    else this.#files = [...this.#files.slice(0, folded.first), ...this.#files.slice(folded.end), file];
    if (isBase || folded !== undefined) {
      this.#run.clear();
      // What is frozen already has the rows of files that are gone from the chain: it is one more delta.
      this.#folding.clear();
      this.#marked = undefined;
    } else this.#run.grown();
    if (this.#needsBase()) this.#mark(() => this.#init.rows.markAllChanged());
    else if (this.#needsFolding()) this.#markRun();
  }

  /** As one: of a store that is down for long, each row is kept once. */
  #keepForNext([oldest, ...later]: readonly StateDelta[]): void {
    for (const each of later) {
      const folded = this.#folding.get(each);
      if (oldest !== undefined && folded !== undefined) this.#folding.set(oldest, folded);
      this.#folding.delete(each);
      oldest?.absorb(each);
    }
    this.#unwritten = this.#unwritten.filter((each) => !later.includes(each));
  }

  /** Writes what was in flight at a checkpoint, beside the chain. @throws WeirError naming the file */
  async writeInFlight(checkpointId: number, rows: Iterable<ChangedRow>): Promise<SnapshotFileInfo> {
    const { directory, label, store } = this.#init;
    const path = join(directory, `${label}-${checkpointId}.in-flight`);
    const written = await writeSnapshotFile(path, { kind: "in-flight", checkpointId }, rows);
    return { ...((await store?.(written)) ?? written), inFlight: true };
  }

  #mark(mark: () => Promise<unknown>): void {
    this.#marking ??= mark().finally(() => (this.#marking = undefined));
  }

  #markRun(): void {
    const { keys, length } = this.#run;
    if (keys === undefined) return;
    const folded = { first: this.#files.length - length, end: this.#files.length };
    this.#mark(async () => {
      const whole = await this.#init.rows.markChanged(keys);
      // A base, or a folded file, that came in between has made the files others.
      if (whole && this.#files.length >= folded.end && this.#run.keys === keys) this.#marked = folded;
    });
  }

  #needsBase(): boolean {
    const [base, ...deltas] = this.#files;
    const deltaBytes = sum(deltas);
    if (deltaBytes > Math.max(this.#smallBytes, MAX_DELTAS_PER_BASE * (base?.byteLength ?? 0))) return true;
    if (this.#files.length > MAX_RUNS * this.#maxRun) return true;
    const isFoldable = this.#run.keys !== undefined && deltaBytes + (base?.byteLength ?? 0) > this.#smallBytes;
    return !isFoldable && this.#files.length > this.#maxRun;
  }

  #needsFolding(): boolean {
    return this.#run.length >= this.#maxRun;
  }

  /** Resolves when nothing is being written or marked. */
  async settled(): Promise<void> {
    await this.#writing;
    await this.#marking;
  }
}

function sum(files: readonly SnapshotFileInfo[]): number {
  return files.reduce((bytes, { byteLength }) => bytes + byteLength, 0);
}

/** The rows of all deltas, of each row the newest state. */
function* newestRows(deltas: readonly StateDelta[]): Iterable<ChangedRow> {
  for (const [index, delta] of deltas.entries()) {
    const later = deltas.slice(index + 1);
    if (later.length === 0) yield* delta.rows();
    else for (const row of delta.rows()) if (!later.some((each) => each.has(row.table, row.key))) yield row;
  }
}
