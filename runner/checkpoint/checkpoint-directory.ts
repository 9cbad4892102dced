/**
 * A job's checkpoints in a directory that all workers see, or in a folder of a store: manifests in it, the tasks' snapshot files in
 * its folder `state`.
 *
 * Invariant: a manifest appears under its name whole and durable, or not at all.
 */
import { relative, resolve, sep } from "node:path";
import { randomId } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import { decodeManifest, encodeManifest, filesOf, type SnapshotManifest } from "./snapshot-manifest.ts";
import { isRemote, locationIn } from "../storage/checkpoint-storage.ts";
import { openStorage } from "../storage/open-storage.ts";

export class CheckpointDirectory {
  readonly path: string;

  /** @param path absolute, or a URI; the job's own */
  constructor(path: string) {
    this.path = path;
  }

  /** For the tasks' files. */
  get statePath(): string {
    return locationIn(this.path, "state");
  }

  manifestPath(checkpointId: number): string {
    return locationIn(this.path, `checkpoint-${checkpointId}.json`);
  }

  /**
   * Makes it, and finds out whether files can be written and deleted in it: a job is to know before it needs that.
   * @throws WeirError naming the place, and why not
   */
  async open(): Promise<void> {
    const storage = openStorage(this.path);
    await storage.open(this.statePath);
    const probe = locationIn(this.statePath, `${randomId()}.part`);
    await storage.create(probe, new Uint8Array());
    await storage.delete([probe]);
  }

  /** @throws WeirError naming the file; it then does not exist. */
  async write(manifest: SnapshotManifest): Promise<void> {
    const bytes = encodeManifest(this.#mapPaths(manifest, (absolute) => this.#relative(absolute)));
    await openStorage(this.path).create(this.manifestPath(manifest.checkpointId), bytes);
  }

  /** With absolute locations. @throws WeirError DATA_LOSS for one that is no manifest, NOT_FOUND when there is none. */
  async read(checkpointId: number): Promise<SnapshotManifest> {
    const path = this.manifestPath(checkpointId);
    const bytes = await openStorage(this.path).read(path);
    return this.#mapPaths(decodeManifest(bytes, path), (stored) => this.#absolute(stored));
  }

  /**
   * That all of its files are there in full; their checksums are for those who read them.
   * @throws WeirError DATA_LOSS naming the first that is not.
   */
  async verify(manifest: SnapshotManifest): Promise<void> {
    for (const { path, byteLength } of filesOf(manifest)) {
      const found = await openStorage(path).size(path);
      if (found === byteLength) continue;
      const state = found === undefined ? "is missing" : `has ${found} bytes, not ${byteLength}`;
      throw new WeirError({
        code: "DATA_LOSS",
        domain: "external",
        message: `Checkpoint ${manifest.checkpointId} cannot be restored: its file ${path} ${state}.`,
      });
    }
  }

  /** What is not there is deleted already. */
  async delete(paths: readonly string[]): Promise<void> {
    await openStorage(this.path).delete(paths);
  }

  /** With everything in it. */
  async remove(): Promise<void> {
    await openStorage(this.path).removeFolder(this.path);
  }

  #absolute(stored: string): string {
    if (isRemote(stored)) return stored;
    return isRemote(this.path) ? locationIn(this.path, stored) : resolve(this.path, stored);
  }

  #relative(path: string): string {
    if (isRemote(this.path)) return path.startsWith(`${this.path}/`) ? path.slice(this.path.length + 1) : path;
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
