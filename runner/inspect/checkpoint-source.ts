/**
 * A job's checkpoints as tools find them: in its checkpoint directory, or below a directory that holds those of several
 * jobs, such as a job server's data directory or --state_backend_storage_path in a store. Nothing is changed.
 */
import { readdir } from "node:fs/promises";
import { resolve } from "node:path";
import { WeirError } from "../base/errors.ts";
import { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import type { SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import { isRemote, locationIn } from "../storage/checkpoint-storage.ts";
import { checkStorageRoot, openStorage } from "../storage/open-storage.ts";

const MANIFEST = /^checkpoint-(\d+)\.json$/;

export class CheckpointSource {
  readonly path: string;
  /** Of complete checkpoints, ascending. */
  readonly ids: readonly number[];
  readonly #directory: CheckpointDirectory;

  private constructor(path: string, ids: readonly number[]) {
    this.path = path;
    this.ids = ids;
    this.#directory = new CheckpointDirectory(path);
  }

  /**
   * @param path the job's checkpoint directory, or one that has it as JOB or checkpoints/JOB; or a URL of such a folder
   * @param job needed only where there are several
   * @throws WeirError NOT_FOUND naming the directory, and the jobs that there are.
   */
  static async open(path: string, job?: string): Promise<CheckpointSource> {
    const start = startOf(path);
    if (!isRemote(start)) await mustExist(start);
    if (job === undefined) {
      const ids = await idsIn(start);
      if (ids.length > 0) return new CheckpointSource(start, ids);
    }
    const found: CheckpointSource[] = [];
    for (const parent of [start, locationIn(start, "checkpoints")])
      for (const name of await openStorage(parent).folders(parent)) {
        if (job !== undefined && name !== job) continue;
        const folder = locationIn(parent, name);
        const ids = await idsIn(folder);
        if (ids.length > 0) found.push(new CheckpointSource(folder, ids));
      }
    const [only, ...others] = found;
    if (only !== undefined && others.length === 0) return only;
    const jobs = found.map((each) => each.path.slice(each.path.lastIndexOf("/") + 1));
    throw new WeirError({
      code: "NOT_FOUND",
      domain: "user",
      message:
        jobs.length === 0
          ? `There is no complete checkpoint${job === undefined ? "" : ` of job ${job}`} in ${start}.`
          : `There are checkpoints of several jobs in ${start}: ${jobs.sort().join(", ")}.`,
      hint:
        jobs.length === 0
          ? "Give the directory that has checkpoint-N.json in it, or a job server's --data-dir. The checkpoints of a job that has ended are gone, unless --externalized_checkpoints_enabled kept them."
          : "Say which one with --job.",
    });
  }

  /** @param id default: the newest. @throws WeirError naming the file, or the checkpoints that there are. */
  async manifest(id?: number): Promise<SnapshotManifest> {
    const wanted = id ?? (this.ids.at(-1) as number);
    if (!this.ids.includes(wanted))
      throw new WeirError({
        code: "NOT_FOUND",
        domain: "user",
        message: `There is no complete checkpoint ${wanted} in ${this.path}; there are: ${this.ids.join(", ")}.`,
      });
    return this.#directory.read(wanted);
  }

  /** Whether it is there still: a job that runs deletes its older ones. */
  async has(id: number): Promise<boolean> {
    const location = this.manifestPath(id);
    return (await openStorage(location).size(location)) !== undefined;
  }

  manifestPath(id: number): string {
    return this.#directory.manifestPath(id);
  }
}

/** @throws WeirError for a URL that names no place of a store */
function startOf(path: string): string {
  return isRemote(path) ? checkStorageRoot(path, "The directory of checkpoints") : resolve(path);
}

async function idsIn(folder: string): Promise<number[]> {
  return (await openStorage(folder).files(folder))
    .flatMap((location) => MANIFEST.exec(location.slice(location.lastIndexOf("/") + 1))?.[1] ?? [])
    .map(Number)
    .sort((left, right) => left - right);
}

async function mustExist(path: string): Promise<void> {
  try {
    await readdir(path);
  } catch (cause) {
    throw new WeirError({
      code: "NOT_FOUND",
      domain: "user",
      message: `Cannot read the directory ${path}: ${(cause as Error).message}.`,
      cause,
    });
  }
}
