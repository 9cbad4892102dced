/**
 * A job's checkpoints in a local directory (one that all workers see): manifests in it, the tasks' snapshot files in
 * its folder `state`.
 *
 * Invariant: a manifest appears under its name whole and durable, or not at all.
 */
import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { join, relative, resolve, sep } from "node:path";
import { WeirError } from "../base/errors.ts";
import { decodeManifest, encodeManifest, filesOf, type SnapshotManifest } from "./snapshot-manifest.ts";

export class CheckpointDirectory {
  readonly path: string;

  /** @param path absolute; the job's own */
  constructor(path: string) {
    this.path = path;
  }

  /** For the tasks' files. */
  get statePath(): string {
    return join(this.path, "state");
  }

  manifestPath(checkpointId: number): string {
    return join(this.path, `checkpoint-${checkpointId}.json`);
  }

  /** @throws WeirError naming the directory when it cannot be made. */
  async open(): Promise<void> {
    try {
      await mkdir(this.statePath, { recursive: true });
    } catch (cause) {
      throw failed("make the checkpoint directory", this.statePath, cause);
    }
  }

  /** @throws WeirError naming the file; it then does not exist. */
  async write(manifest: SnapshotManifest): Promise<void> {
    const path = this.manifestPath(manifest.checkpointId);
    const temporary = `${path}.part`;
    try {
      const file = await open(temporary, "w");
      try {
        await file.writeFile(encodeManifest(this.#mapPaths(manifest, (absolute) => this.#relative(absolute))));
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
      const directory = await open(this.path, "r");
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    } catch (cause) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw failed("write the manifest", path, cause);
    }
  }

  /** With absolute paths. @throws WeirError DATA_LOSS for one that is no manifest, NOT_FOUND when there is none. */
  async read(checkpointId: number): Promise<SnapshotManifest> {
    const path = this.manifestPath(checkpointId);
    let bytes: Uint8Array;
    try {
      bytes = await readFile(path);
    } catch (cause) {
      throw failed("read the manifest", path, cause, "NOT_FOUND");
    }
    return this.#mapPaths(decodeManifest(bytes, path), (stored) => resolve(this.path, stored));
  }

  /**
   * That all of its files are there in full; their checksums are for those who read them.
   * @throws WeirError DATA_LOSS naming the first that is not.
   */
  async verify(manifest: SnapshotManifest): Promise<void> {
    for (const { path, byteLength } of filesOf(manifest)) {
      const found = await stat(path).catch(() => undefined);
      if (found?.size === byteLength) continue;
      const state = found === undefined ? "is missing" : `has ${found.size} bytes, not ${byteLength}`;
      throw new WeirError({
        code: "DATA_LOSS",
        domain: "external",
        message: `Checkpoint ${manifest.checkpointId} cannot be restored: its file ${path} ${state}.`,
      });
    }
  }

  /** What is not there is deleted already. */
  async delete(paths: readonly string[]): Promise<void> {
    for (const path of paths) await rm(path, { force: true });
  }

  /** With everything in it. */
  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }

  #relative(path: string): string {
    const inside = relative(this.path, path);
    return inside === ".." || inside.startsWith(`..${sep}`) ? path : inside;
  }

  #mapPaths(manifest: SnapshotManifest, map: (path: string) => string): SnapshotManifest {
    return {
      ...manifest,
      tasks: manifest.tasks.map((task) => ({
        ...task,
        files: task.files.map((file) => ({ ...file, path: map(file.path) })),
      })),
    };
  }
}

function failed(what: string, path: string, cause: unknown, code: "UNAVAILABLE" | "NOT_FOUND" = "UNAVAILABLE") {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new WeirError({
    code,
    domain: "external",
    message: `Cannot ${what} ${path}: ${reason}.`,
    retry: code === "UNAVAILABLE",
    cause,
  });
}
