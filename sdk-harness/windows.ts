/** Windows as user functions see them, and elements in their windows. */
import { END_OF_GLOBAL_WINDOW, type Timestamp } from "../runner/time/timestamp.ts";

export interface IntervalWindow {
  readonly start: number;
  /** Not in the window. */
  readonly end: number;
}

export type Window = "global" | IntervalWindow;

/** The last timestamp that is in the window. */
export function maxTimestamp(window: Window): Timestamp {
  return window === "global" ? END_OF_GLOBAL_WINDOW : ((window.end - 1) as Timestamp);
}

export interface WindowedValue {
  readonly value: unknown;
  readonly timestamp: Timestamp;
  readonly windows: readonly Window[];
  /** Encoded pane info. */
  readonly pane: Uint8Array;
}
