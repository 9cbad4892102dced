/**
 * Which complete checkpoints of a job are kept, and which snapshot files none of them needs. Pure.
 *
 * Snapshots are incremental: a file is shared by many checkpoints, and a task's next snapshot builds on the files of
 * its last one, complete or not. So files go only when a checkpoint completes: then each task's newest files are those
 * of this checkpoint, and what neither it nor another kept one lists will never be listed again.
 */
import { filesOf, type SnapshotFileRef, type SnapshotManifest } from "./snapshot-manifest.ts";

export interface Retirement {
  /** Checkpoints that are not kept any more. */
  readonly manifests: readonly SnapshotManifest[];
  /** Paths of files that no kept checkpoint needs. */
  readonly files: readonly string[];
}

export class RetainedCheckpoints {
  readonly #limit: number;
  /** Oldest first. */
  #kept: SnapshotManifest[] = [];
  /** By path: the last checkpoint that it was written or listed for. */
  readonly #knownFiles = new Map<string, number>();

  /** @param limit at least 1 */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /**
   * What an earlier job server left. Files that none of its checkpoints lists go with the next one that completes.
   * @param manifests the newest last
   */
  found(manifests: readonly SnapshotManifest[], files: readonly string[]): void {
    for (const path of files) this.#knownFiles.set(path, 0);
    for (const manifest of manifests) this.written(manifest.checkpointId, filesOf(manifest));
    this.#kept = [...manifests];
  }

  get newestFirst(): readonly SnapshotManifest[] {
    return this.#kept.toReversed();
  }

  /** A task has listed these for a checkpoint, which may or may not become complete. */
  written(checkpointId: number, files: readonly SnapshotFileRef[]): void {
    for (const { path } of files) this.#knownFiles.set(path, Math.max(checkpointId, this.#knownFiles.get(path) ?? 0));
  }

  /** The manifest is durable. @returns what can be deleted: manifests first, then files. */
  completed(manifest: SnapshotManifest): Retirement {
    this.written(manifest.checkpointId, filesOf(manifest));
    this.#kept.push(manifest);
    const manifests = this.#kept.slice(0, -this.#limit);
    this.#kept = this.#kept.slice(-this.#limit);
    const needed = new Set(this.#kept.flatMap((kept) => filesOf(kept).map(({ path }) => path)));
    // One that began after this one may need what was listed for it.
    const files = [...this.#knownFiles]
      .filter(([path, checkpointId]) => checkpointId <= manifest.checkpointId && !needed.has(path))
      .map(([path]) => path);
    for (const path of files) this.#knownFiles.delete(path);
    return { manifests, files };
  }

  /** The checkpoint cannot be restored: it is not gone back to again. */
  damaged(checkpointId: number): void {
    this.#kept = this.#kept.filter((manifest) => manifest.checkpointId !== checkpointId);
  }
}
