/**
 * Named points of the checkpoint protocol at which a test kills the process that comes to them: by SIGKILL, so that
 * nothing is flushed, closed or told, as in a real crash there.
 *
 * A test sets the environment variable WEIR_CRASH_POINTS to a directory and puts an empty file there that is named as
 * the point; the first process that reaches the point removes the file and dies, and what replaces it goes on. Without
 * the variable a point is one comparison.
 */
import { unlinkSync } from "node:fs";
import { join } from "node:path";

export type CrashPoint =
  /** Worker: told to take a checkpoint; no barrier has started from it. */
  | "before-barrier"
  /** Worker: a task has the barrier on some of its channels. */
  | "during-alignment"
  /** Worker: a task's snapshot is stored, the coordinator does not know. */
  | "before-acknowledgment"
  /** Job server: all tasks have acknowledged, no manifest is there. */
  | "before-manifest"
  /** Job server: the manifest is there, nobody was told. */
  | "after-manifest"
  /** Worker: told that a checkpoint is complete, nothing is finalized. */
  | "before-finalization"
  /** Worker: a task's rows are restored, it has not started. */
  | "during-restore"
  /** Worker: a new base is written that replaces a chain of snapshot files; it is not stored. */
  | "during-compaction";

const DIRECTORY = process.env["WEIR_CRASH_POINTS"];

/** Ends the process here if a test wants that. */
export function crashPoint(point: CrashPoint): void {
  if (DIRECTORY === undefined) return;
  try {
    unlinkSync(join(DIRECTORY, point));
  } catch {
    return;
  }
  process.kill(process.pid, "SIGKILL");
}
