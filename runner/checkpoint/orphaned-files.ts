/**
 * Files of a job's checkpoint folder that nothing needs and nobody knows any more: of checkpoints that were never
 * complete, or found damaged, and of execution attempts that have ended; a worker that was cut off may have written
 * them when nobody listened. Pure.
 *
 * Invariants: what a kept manifest lists stays, and what the running attempt may be writing; so does every name that
 * this file does not know.
 */
import { filesOf, type SnapshotManifest } from "./snapshot-manifest.ts";

export interface OrphanFacts {
  /** Locations of everything in the folder. */
  readonly locations: readonly string[];
  /** Kept checkpoints, with absolute locations; a complete one of the running attempt is among them. */
  readonly kept: readonly SnapshotManifest[];
  readonly executionAttempt: number;
}

/** A task's file, whole or being written: the attempt is between the second point and the hyphen. */
const STATE_FILE = /\/state\/[^/]*\.(\d+)\.(\d+)-\d+\.(?:base|delta|in-flight)(?:\.[^/]*)?$/;
/** Of CheckpointDirectory.open, before any task of the job ran. */
const PROBE = /\/state\/probe-[^/]*\.part$/;
const MANIFEST_FILE = /\/checkpoint-(\d+)\.json(?:\.[^/]*)?$/;

/** @returns locations, manifests first: a manifest whose files are gone would promise too much */
export function orphanedFiles({ locations, kept, executionAttempt }: OrphanFacts): readonly string[] {
  const needed = new Set(kept.flatMap((manifest) => filesOf(manifest).map(({ path }) => path)));
  const keptIds = new Set(kept.map(({ checkpointId }) => checkpointId));
  if (kept.length === 0) return [];
  const oldestId = Math.min(...keptIds);
  const manifests = locations.filter((location) => {
    const id = MANIFEST_FILE.exec(location)?.[1];
    return id !== undefined && Number(id) < oldestId;
  });
  const files = locations.filter((location) => {
    if (PROBE.test(location)) return true;
    const attempt = STATE_FILE.exec(location)?.[2];
    return attempt !== undefined && Number(attempt) < executionAttempt && !needed.has(location);
  });
  return [...manifests, ...files];
}
