/**
 * Files of a job's checkpoint folder that nothing needs and nobody knows any more: of checkpoints that were never
 * complete, or found damaged, and of execution attempts that have ended; a worker that was cut off may have written
 * them when nobody listened. Pure.
 *
 * Invariants: what a kept manifest lists stays, and what a running attempt may be writing; so does every name that
 * this file does not know.
 */
import { filesOf, type SnapshotManifest } from "./snapshot-manifest.ts";

export interface OrphanFacts {
  /** Locations of everything in the folder. */
  readonly locations: readonly string[];
  /** Kept checkpoints, with absolute locations; a complete one of the running attempts is among them. */
  readonly kept: readonly SnapshotManifest[];
  /** The execution attempt that a vertex' tasks are in now; undefined for a vertex that the job has not. */
  readonly attemptOf: (vertexId: string) => number | undefined;
}

/** A task's file, whole or being written: VERTEX.SUBTASK.ATTEMPT-CHECKPOINT. */
const STATE_FILE = /\/state\/([^/]*)\.\d+\.(\d+)-\d+\.(?:base|delta|in-flight)(?:\.[^/]*)?$/;
/** Of CheckpointDirectory.open, before any task of the job ran. */
const PROBE = /\/state\/probe-[^/]*\.part$/;
const MANIFEST_FILE = /\/checkpoint-(\d+)\.json(?:\.[^/]*)?$/;

/** @returns locations, manifests first: a manifest whose files are gone would promise too much */
export function orphanedFiles({ locations, kept, attemptOf }: OrphanFacts): readonly string[] {
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
    const [, vertexId, attempt] = STATE_FILE.exec(location) ?? [];
    const current = vertexId === undefined ? undefined : attemptOf(vertexId);
    return current !== undefined && Number(attempt) < current && !needed.has(location);
  });
  return [...manifests, ...files];
}
