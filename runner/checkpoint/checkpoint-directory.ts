/**
 * A job's checkpoints in a directory that all workers see, or in a folder of a store: manifests in it, the tasks' snapshot files in
 * its folder `state`.
 *
 * Invariants: a manifest appears under its name whole and durable, or not at all. When `write` has returned, no other job
 * server had claimed the folder before the manifest was there: whoever claims it later finds the manifest.
 */
import { relative, resolve, sep } from "node:path";
import { type Clock, randomId } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import {
  ATTEMPTS_PER_CLAIM,
  decodeClaim,
  encodeClaim,
  type FolderContents,
  folderContents,
  SupersededError,
} from "./leader-claim.ts";
import { decodeManifest, encodeManifest, filesOf, type SnapshotManifest } from "./snapshot-manifest.ts";
import { submissionLocation } from "./stored-submission.ts";
import { isRemote, locationIn } from "../storage/checkpoint-storage.ts";
import { openStorage } from "../storage/open-storage.ts";

/** A folder that is ours, and what was in it. */
export interface ClaimedFolder extends Omit<FolderContents, "highestEpoch"> {
  /** From 1. Greater than 1: another server has run the job before. */
  readonly epoch: number;
  /** Execution attempts have greater numbers. */
  readonly attemptFloor: number;
}

export class CheckpointDirectory {
  readonly path: string;
  /** Undefined until it is claimed: for readers. */
  #epoch: number | undefined;

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
    const probe = locationIn(this.statePath, `probe-${randomId()}.part`);
    await storage.create(probe, new Uint8Array());
    await storage.delete([probe]);
  }

  /**
   * Makes this process the one that may complete checkpoints. Once.
   * @param attemptFloor where nobody has claimed it before: see ClaimedFolder
   */
  async claim(attemptFloor: number, clock: Clock): Promise<ClaimedFolder> {
    const storage = openStorage(this.path);
    const server = randomId();
    for (;;) {
      const found = await this.contents();
      const { highestEpoch } = found;
      const epoch = highestEpoch + 1;
      const floor = highestEpoch === 0 ? attemptFloor : await this.#nextFloor(highestEpoch);
      try {
        await storage.create(
          this.#claimPath(epoch),
          encodeClaim({ server, claimedMs: clock.nowMs(), attemptFloor: floor }),
        );
      } catch (thrown) {
        // Somebody else was quicker; the next claim is ours, or that of the one after.
        if (WeirError.from(thrown).code === "ALREADY_EXISTS") continue;
        throw thrown;
      }
      this.#epoch = epoch;
      // Looked for again: the last server may have completed one until it was superseded.
      const { checkpointIds, stateFiles } = highestEpoch === 0 ? found : await this.contents();
      return { epoch, attemptFloor: floor, checkpointIds, stateFiles };
    }
  }

  /** What is there now; nothing, where there is no folder. */
  async contents(): Promise<FolderContents> {
    const locations = await openStorage(this.path).list(this.path);
    return folderContents(new Map(locations.map((location) => [location, this.#relative(location)])));
  }

  async #nextFloor(epoch: number): Promise<number> {
    const location = this.#claimPath(epoch);
    const { attemptFloor } = decodeClaim(await openStorage(this.path).read(location), location);
    return attemptFloor + ATTEMPTS_PER_CLAIM;
  }

  #claimPath(epoch: number): string {
    return locationIn(this.path, `leader-${epoch}.json`);
  }

  /** Whether another server has claimed the folder since. @throws WeirError when the store cannot tell */
  async isSuperseded(): Promise<boolean> {
    if (this.#epoch === undefined) return false;
    return (await openStorage(this.path).size(this.#claimPath(this.#epoch + 1))) !== undefined;
  }

  /**
   * @throws SupersededError when another server has the job: the checkpoint then counts for nothing here;
   * WeirError naming the file, which then does not exist.
   */
  async write(manifest: SnapshotManifest): Promise<void> {
    const leader = this.#epoch === undefined ? {} : { leaderEpoch: this.#epoch };
    const content = this.#mapPaths({ ...manifest, ...leader }, (absolute) => this.#relative(absolute));
    await openStorage(this.path).create(this.manifestPath(manifest.checkpointId), encodeManifest(content));
    if (await this.isSuperseded()) throw new SupersededError(this.path);
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

  /** Locations of everything in it. */
  async locations(): Promise<readonly string[]> {
    return openStorage(this.path).list(this.path);
  }

  /** What is not there is deleted already. */
  async delete(paths: readonly string[]): Promise<void> {
    await openStorage(this.path).delete(paths);
  }

  /** With everything in it, if it is still ours. */
  async remove(): Promise<void> {
    if (await this.isSuperseded()) return;
    const storage = openStorage(this.path);
    // First: a folder that is left half deleted must not look like a job that is to begin again.
    await storage.delete([submissionLocation(this.path)]);
    await storage.removeFolder(this.path);
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
