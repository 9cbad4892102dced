/** Windows as user functions see them, and elements in their windows. */
import type { Timestamp } from "../runner/time/timestamp.ts";

export interface IntervalWindow {
  readonly start: number;
  /** Not in the window. */
  readonly end: number;
}

export type Window = "global" | IntervalWindow;

export interface WindowedValue {
  readonly value: unknown;
  readonly timestamp: Timestamp;
  readonly windows: readonly Window[];
  /** Encoded pane info. */
  readonly pane: Uint8Array;
}
