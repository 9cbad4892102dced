/**
 * A task's snapshot files on their way to a store and back: written and read in a folder of the worker's own disk,
 * from where they go when the store has them or the rows are restored. With a directory as the storage nothing is
 * copied.
 */
import { rm } from "node:fs/promises";
import { basename } from "node:path";
import { isRemote, locationIn } from "../../storage/checkpoint-storage.ts";
import { withLocalCopy } from "../../storage/local-copy.ts";
import { openStorage } from "../../storage/open-storage.ts";
import type { SnapshotChainInit } from "../../state/keyed/snapshot-chain.ts";
import type { SnapshotFileInfo } from "../../state/keyed/snapshot-file.ts";

export class SnapshotCopies {
  readonly #folder: string;
  readonly #destination: string;

  /**
   * @param folder of this task alone
   * @param destination where its snapshots are to stay: a directory, or a folder of a store
   */
  constructor(folder: string, destination: string) {
    this.#folder = folder;
    this.#destination = destination;
  }

  chainPlace(): Pick<SnapshotChainInit, "directory" | "store"> {
    if (!isRemote(this.#destination)) return { directory: this.#destination };
    return { directory: this.#folder, store: (file) => this.#upload(file) };
  }

  async #upload(file: SnapshotFileInfo): Promise<SnapshotFileInfo> {
    const location = locationIn(this.#destination, basename(file.path));
    try {
      await openStorage(location).upload(location, file.path);
    } finally {
      // After a failure the rows are in the next file.
      await rm(file.path, { force: true });
    }
    return { ...file, path: location };
  }

  /** Has `restore` read the files one after the other, those of a store as local copies. */
  async restoring(
    files: readonly SnapshotFileInfo[],
    restore: (local: readonly SnapshotFileInfo[]) => Promise<unknown>,
  ): Promise<void> {
    for (const file of files) await withLocalCopy(file.path, this.#folder, (path) => restore([{ ...file, path }]));
  }
}
