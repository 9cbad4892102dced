/**
 * Which running attempts are asked to give input away when workers are idle, and when. Pure: facts in, decisions out.
 *
 * An attempt is asked when it has run for a while, one question at a time; the oldest first, since what has run longest
 * has most often most left. One that had nothing to give is asked again after twice the time.
 */
import type { TaskAttemptId } from "../base/ids.ts";

/** A second task costs a harness's start and its input's way: shorter ones are not worth it. */
const FIRST_ASKED_AFTER_MS = 3_000;
/** Between two questions, so that what was given away has begun. */
const ASKED_EVERY_MS = 2_000;
const LONGEST_PAUSE_MS = 60_000;

interface Asked {
  isOpen: boolean;
  notBeforeMs: number;
  pauseMs: number;
}

export class SplitRequests {
  readonly #attempts = new Map<TaskAttemptId, Asked>();

  /** The attempt runs from now on. */
  started(attemptId: TaskAttemptId, nowMs: number): void {
    this.#attempts.set(attemptId, {
      isOpen: false,
      notBeforeMs: nowMs + FIRST_ASKED_AFTER_MS,
      pauseMs: ASKED_EVERY_MS,
    });
  }

  /** At most `limit` attempts to ask now, in the order of their start; they count as asked. */
  choose(nowMs: number, limit: number, isSplittable: (attemptId: TaskAttemptId) => boolean): TaskAttemptId[] {
    const chosen: TaskAttemptId[] = [];
    for (const [attemptId, asked] of this.#attempts) {
      if (chosen.length >= limit) break;
      if (asked.isOpen || asked.notBeforeMs > nowMs || !isSplittable(attemptId)) continue;
      asked.isOpen = true;
      chosen.push(attemptId);
    }
    return chosen;
  }

  answered(attemptId: TaskAttemptId, hasGiven: boolean, nowMs: number): void {
    const asked = this.#attempts.get(attemptId);
    if (asked === undefined) return;
    asked.isOpen = false;
    asked.pauseMs = hasGiven ? ASKED_EVERY_MS : Math.min(asked.pauseMs * 2, LONGEST_PAUSE_MS);
    asked.notBeforeMs = nowMs + asked.pauseMs;
  }

  /** Forgets attempts that do not run any more. */
  keep(isRunning: (attemptId: TaskAttemptId) => boolean): void {
    for (const attemptId of this.#attempts.keys()) if (!isRunning(attemptId)) this.#attempts.delete(attemptId);
  }
}
