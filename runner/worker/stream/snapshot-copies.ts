/**
 * A task's snapshot files on their way to a store and back: written and read in a folder of the worker's own disk,
 * where a copy of what the store has stays for a restore on the same worker. With a directory as the storage nothing
 * is copied.
 */
import { rm } from "node:fs/promises";
import { basename } from "node:path";
import { isRemote, locationIn } from "../../storage/checkpoint-storage.ts";
import { withLocalCopy } from "../../storage/local-copy.ts";
import { openStorage } from "../../storage/open-storage.ts";
import type { SnapshotChainInit } from "../../state/keyed/snapshot-chain.ts";
import type { SnapshotFileInfo } from "../../state/keyed/snapshot-file.ts";
import type { LocalSnapshots } from "./local-snapshots.ts";

export interface SnapshotCopiesInit {
  /** Begins the names of the task's files in all execution attempts. */
  readonly task: string;
  /** Begins those of this attempt. */
  readonly label: string;
  /** Where its snapshots are to stay: a directory, or a folder of a store. */
  readonly destination: string;
  readonly local: LocalSnapshots;
}

export class SnapshotCopies {
  readonly #init: SnapshotCopiesInit;
  /** Of the task's newest snapshot, which may not be part of a complete checkpoint yet. */
  #newest: readonly SnapshotFileInfo[] = [];
  /** Files of the restore that had a local copy, and those that had none. */
  readonly counts = { local: 0, fetched: 0 };

  #isClosed = false;

  constructor(init: SnapshotCopiesInit) {
    this.#init = init;
  }

  get #folder(): string {
    return this.#init.local.folderOf(this.#init.label);
  }

  chainPlace(): Pick<SnapshotChainInit, "directory" | "store"> {
    if (!isRemote(this.#init.destination)) return { directory: this.#init.destination };
    return { directory: this.#folder, store: (file) => this.#upload(file) };
  }

  async #upload(file: SnapshotFileInfo): Promise<SnapshotFileInfo> {
    const location = locationIn(this.#init.destination, basename(file.path));
    const stored = { ...file, path: location };
    try {
      await openStorage(location).upload(location, file.path);
    } catch (failure) {
      // The rows are in the next file.
      await rm(file.path, { force: true });
      throw failure;
    }
    await this.#init.local.keep(stored, file.path);
    return stored;
  }

  /** The task's newest snapshot is made of these files. */
  async written(files: readonly SnapshotFileInfo[]): Promise<void> {
    // What an attempt that is over has still written must not drop what the next one needs.
    if (this.#isClosed) return;
    await this.#init.local.retain(this.#init.task, [...this.#newest, ...files]);
    this.#newest = files;
  }

  /** Has `restore` read the task's own files one after the other. */
  async restoringOwn(
    files: readonly SnapshotFileInfo[],
    restore: (local: readonly SnapshotFileInfo[]) => Promise<unknown>,
  ): Promise<void> {
    const { local } = this.#init;
    for (const file of files) {
      const isRestored = await local.restoring(file, this.#folder, (path) => restore([{ ...file, path }]));
      this.counts[isRestored ? "local" : "fetched"]++;
      if (isRestored) continue;
      await withLocalCopy(file.path, this.#folder, async (path) => {
        await restore([{ ...file, path }]);
        if (path !== file.path) await local.keep(file, path);
      });
    }
    await this.written(files);
  }

  /** Copies files of a snapshot to a savepoint, which needs no other folder then. */
  async toSavepoint(files: readonly SnapshotFileInfo[], folder: string): Promise<void> {
    const { local } = this.#init;
    for (const file of files) {
      const location = locationIn(folder, basename(file.path));
      const upload = (path: string) => openStorage(location).upload(location, path);
      const isDone = await local.restoring(file, this.#folder, upload);
      if (!isDone) await withLocalCopy(file.path, this.#folder, upload);
    }
  }

  /** Has `restore` read any files one after the other, those of a store as local copies. */
  async restoring(
    files: readonly SnapshotFileInfo[],
    restore: (local: readonly SnapshotFileInfo[]) => Promise<unknown>,
  ): Promise<void> {
    for (const file of files) await withLocalCopy(file.path, this.#folder, (path) => restore([{ ...file, path }]));
  }

  /** The attempt is over. Idempotent. */
  close(): void {
    this.#isClosed = true;
  }
}
