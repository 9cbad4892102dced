/**
 * Copies of a job's snapshot files on the disk of the worker that wrote them: where a task begins again on the same
 * worker, it need not fetch its state from the store (as Flink's state.backend.local-recovery). Only of files of a
 * store: what lies in a directory is read where it lies.
 *
 * Invariants: a copy is used only where its length and its SHA-256 are those of the manifest, and the store has every
 * file that has a copy; copies take no more than `limitBytes`, the oldest go first, and all go with the job.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { link, mkdir, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { Log } from "../../base/log.ts";
import type { SnapshotFileInfo } from "../../state/keyed/snapshot-file.ts";

export interface LocalSnapshotsInit {
  /** Of this job on this worker alone. */
  readonly folder: string;
  readonly limitBytes: number;
  readonly log: Log;
}

export class LocalSnapshots {
  readonly #init: LocalSnapshotsInit;
  /** Byte lengths by name, oldest first. */
  readonly #kept = new Map<string, number>();
  #keptBytes = 0;

  constructor(init: LocalSnapshotsInit) {
    this.#init = init;
  }

  /** For the files of one execution attempt of a task that are on their way. */
  folderOf(label: string): string {
    return join(this.#init.folder, label);
  }

  /** Takes a file that the store has. What cannot be kept is dropped. @param path where it is now; it is gone afterwards */
  async keep(file: SnapshotFileInfo, path: string): Promise<void> {
    const name = basename(file.path);
    const { limitBytes, log } = this.#init;
    if (file.byteLength > limitBytes) {
      await rm(path, { force: true });
      return;
    }
    try {
      await mkdir(this.#folder, { recursive: true });
      await rename(path, join(this.#folder, name));
    } catch (failure) {
      log.warn({ err: failure, file: name }, "no local copy of a snapshot file");
      await rm(path, { force: true });
      return;
    }
    this.#forget(name);
    this.#kept.set(name, file.byteLength);
    this.#keptBytes += file.byteLength;
    for (const [oldest] of this.#kept) {
      if (this.#keptBytes <= limitBytes) break;
      await this.#drop(oldest);
    }
  }

  /**
   * Has `restore` read a file's copy, under a name of its own: it may be dropped meanwhile.
   * @param folder of the task
   * @returns false, and nothing was done, where there is no copy, or it is not what was written
   */
  async restoring(
    file: SnapshotFileInfo,
    folder: string,
    restore: (path: string) => Promise<unknown>,
  ): Promise<boolean> {
    const name = basename(file.path);
    if (this.#kept.get(name) !== file.byteLength) return false;
    const path = join(folder, name);
    try {
      await mkdir(folder, { recursive: true });
      await link(join(this.#folder, name), path);
      const sha256 = await sha256Of(path);
      if (sha256 !== file.sha256) throw new Error(`Its SHA-256 is ${sha256}, not ${file.sha256}.`);
    } catch (failure) {
      this.#init.log.warn({ err: failure, file: name }, "the local copy of a snapshot file is of no use");
      await rm(path, { force: true });
      await this.#drop(name);
      return false;
    }
    try {
      await restore(path);
    } finally {
      await rm(path, { force: true });
    }
    return true;
  }

  /** Drops the copies of a task's files that no restore can need. @param prefix of the names of the task's files */
  async retain(prefix: string, files: Iterable<SnapshotFileInfo>): Promise<void> {
    const names = new Set([...files].map(({ path }) => basename(path)));
    for (const name of [...this.#kept.keys()]) if (name.startsWith(prefix) && !names.has(name)) await this.#drop(name);
  }

  /** Drops all of them. Idempotent. */
  async close(): Promise<void> {
    this.#kept.clear();
    this.#keptBytes = 0;
    await rm(this.#init.folder, { recursive: true, force: true });
  }

  get #folder(): string {
    return join(this.#init.folder, "kept");
  }

  #forget(name: string): void {
    this.#keptBytes -= this.#kept.get(name) ?? 0;
    this.#kept.delete(name);
  }

  async #drop(name: string): Promise<void> {
    this.#forget(name);
    await rm(join(this.#folder, name), { force: true });
  }
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}
