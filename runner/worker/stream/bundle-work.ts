/** What the next bundle of a stage is made of, and what is known of the one that runs. */
import type { Chunk } from "../../base/chunk.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import type { RunningResiduals } from "./residuals.ts";
import type { FiringTimers } from "./stream-ports.ts";

export interface RunningBundle {
  readonly startedMs: number;
  readonly timer: AbortController;
  /** Its restrictions have been truncated. */
  readonly truncated: boolean;
  /** What residuals of it hold that tell no watermark. */
  readonly hold: Timestamp;
}

export interface BundleWork {
  readonly chunks: readonly Chunk[];
  readonly firing: FiringTimers | undefined;
  readonly residuals: RunningResiduals | undefined;
  /** Of its chunks, how many entries had waited. */
  readonly releasedCount: number;
  /** What residuals of it hold that tell no watermark. */
  readonly hold: Timestamp;
}
