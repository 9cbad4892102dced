/** The work of a bundle that fires timers. */
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import type { BundleWork } from "./bundle-work.ts";
import type { StreamStageInit } from "./stream-stage-init.ts";

/** Timers in one bundle. */
const MAX_TIMERS = 10_000;

/**
 * Those that are due at the stage's time, or by processing time; in batch, at the end, all of processing time.
 * @returns undefined when none is
 */
export function nextTimers(
  init: Pick<StreamStageInit, "timers" | "jobClock" | "firesTimersAtEnd" | "sizing">,
  time: Timestamp,
): BundleWork | undefined {
  const { timers, jobClock, firesTimersAtEnd, sizing } = init;
  if (timers === undefined) return undefined;
  const maxTimers = sizing?.limit(MAX_TIMERS) ?? MAX_TIMERS;
  let firing = timers.takeEligible({ inputWatermark: time, processingTimeMs: jobClock.nowMs() }, maxTimers);
  if (firing === undefined && firesTimersAtEnd && time >= MAX_TIMESTAMP)
    firing = timers.takeEligible({ inputWatermark: time, processingTimeMs: Infinity }, maxTimers);
  if (firing === undefined) return undefined;
  return { chunks: [], firing, residuals: undefined, releasedCount: 0, hold: time };
}
