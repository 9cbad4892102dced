/**
 * The pane info of a window's next pane.
 *
 * Source: PaneInfoTracker.describePane of the Java reference.
 */
import type { PaneInfo, PaneTiming } from "../../../coders/pane-info.ts";
import type { LastPane, WindowGroup } from "./window-group.ts";
import type { Watermarks } from "./watermark-holds.ts";

const TIMINGS: readonly PaneTiming[] = ["EARLY", "ON_TIME", "LATE"];
const EARLY = 0;

export function nextPane({ lastPane, maxTimestamp }: WindowGroup, isLast: boolean, watermarks: Watermarks): PaneInfo {
  const onlyEarlySoFar = lastPane === undefined || lastPane.timing === EARLY;
  const timing =
    maxTimestamp < watermarks.output || !onlyEarlySoFar
      ? "LATE"
      : watermarks.input > maxTimestamp
        ? "ON_TIME"
        : "EARLY";
  return {
    isFirst: lastPane === undefined,
    isLast,
    timing,
    index: lastPane === undefined ? 0 : lastPane.index + 1,
    nonSpeculativeIndex: timing === "EARLY" ? -1 : lastPane === undefined ? 0 : lastPane.nonSpeculativeIndex + 1,
  };
}

export function lastPaneOf({ timing, index, nonSpeculativeIndex }: PaneInfo): LastPane {
  return { timing: TIMINGS.indexOf(timing), index, nonSpeculativeIndex };
}
