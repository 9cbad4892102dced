/** What the next bundle of a stage is made of, and what is known of the one that runs. */
import type { Chunk } from "../../base/chunk.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import type { RunningResiduals } from "./residuals.ts";
import type { StageEntry } from "./stage-queue.ts";
import type { FiringTimers } from "./stream-ports.ts";
import type { StreamStageInit } from "./stream-stage-init.ts";

export interface RunningBundle {
  readonly startedMs: number;
  readonly timer: AbortController;
  /** Its restrictions have been truncated. */
  readonly truncated: boolean;
  /** What residuals of it hold that tell no watermark. */
  readonly hold: Timestamp;
  /** What it has taken; undefined when it has committed, and for one that takes nothing but rows. */
  work: BundleWork | undefined;
  /** What it has taken of residuals. Where it was split they are all that it has. */
  residuals: RunningResiduals | undefined;
  /** Processing time of its beginning: when what it gives back without a delay is due. */
  readonly dueMs: number;
  /** How often it was split, over all of its attempts. */
  splitCount: number;
}

export interface BundleWork {
  /** The residuals first, one in each chunk. */
  readonly chunks: readonly Chunk[];
  readonly firing: FiringTimers | undefined;
  readonly residuals: RunningResiduals | undefined;
  /** Of its chunks, how many entries had waited. */
  readonly releasedCount: number;
  /** What residuals of it hold that tell no watermark. */
  readonly hold: Timestamp;
}

/** Restrictions in one bundle: enough for short ones to share a round trip, few enough to be fair. */
export const MAX_RESTRICTIONS = 16;

/** One that begins now. @param work undefined for one that takes nothing but rows */
export function runningBundle(
  { clock, jobClock }: Pick<StreamStageInit, "clock" | "jobClock">,
  work: BundleWork | undefined,
  truncated: boolean,
  hold: Timestamp,
): RunningBundle {
  return {
    startedMs: clock.monotonicMs(),
    timer: new AbortController(),
    truncated,
    hold,
    work,
    residuals: work?.residuals,
    dueMs: jobClock.nowMs(),
    splitCount: 0,
  };
}

/** Elements and timers. */
export function itemCount({ chunks, firing }: BundleWork): number {
  return chunks.reduce((count, { elementCount }) => count + elementCount, firing?.count ?? 0);
}

/**
 * What a bundle has taken and is not among the rows, as input that runs first after a restore. Timers and residuals are
 * rows until it commits.
 */
export function takenInput(running: RunningBundle | undefined): StageEntry[] {
  const work = running?.work;
  if (running === undefined || work === undefined || running.splitCount > 0) return [];
  const data = work.chunks.slice(work.residuals?.elements.length ?? 0);
  return data.map((chunk) => ({ kind: "data", chunk, released: true, raw: false, hold: work.hold }));
}
