/** How a streaming task stands: for people, and for the job server's messages about watermarks that stand still. */
import type { Timestamp } from "../../time/timestamp.ts";
import type { WatermarkHold } from "./watermark-hold.ts";

export interface TaskStatus {
  readonly inputWatermark: Timestamp;
  readonly outputWatermark: Timestamp;
  readonly heldBy: string;
  readonly queuedBytes: number;
  readonly bundleAgeMs: number;
  /** Behind the input watermark, the least first. */
  readonly holds: readonly WatermarkHold[];
  readonly fullToVertices: readonly string[];
}
