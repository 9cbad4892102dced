/**
 * The states of a job and which may follow which: the one table. Names and order are those of Beam's JobState.Enum,
 * less those that Weir never enters.
 */
import { assert } from "../base/assert.ts";

export type JobState =
  "STOPPED" | "STARTING" | "RUNNING" | "DRAINING" | "CANCELLING" | "DONE" | "DRAINED" | "FAILED" | "CANCELLED";

const NEXT: Readonly<Record<JobState, readonly JobState[]>> = {
  STOPPED: ["STARTING", "FAILED", "CANCELLED"],
  STARTING: ["RUNNING", "DONE", "FAILED", "CANCELLING"],
  RUNNING: ["DONE", "FAILED", "DRAINING", "CANCELLING"],
  DRAINING: ["DRAINED", "FAILED", "CANCELLING"],
  // A job may finish in the moment in which it is cancelled.
  CANCELLING: ["CANCELLED", "DONE", "DRAINED", "FAILED"],
  DONE: [],
  DRAINED: [],
  FAILED: [],
  CANCELLED: [],
};

/** True for a state that is never left. */
export function isTerminal(state: JobState): boolean {
  return NEXT[state].length === 0;
}

/** True when `to` may follow `from`. */
function mayFollow(from: JobState, to: JobState): boolean {
  return NEXT[from].includes(to);
}

/** @throws assertion when `to` may not follow `from`. */
export function assertTransition(from: JobState, to: JobState): void {
  assert(mayFollow(from, to), `a job does not go from ${from} to ${to}`);
}
