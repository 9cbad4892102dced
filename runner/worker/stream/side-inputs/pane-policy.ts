/**
 * How the panes of a triggered side input become the content of its windows.
 *
 * - Not updating, DISCARDING (or never fired): panes are parts; the content is all of them.
 * - Not updating, ACCUMULATING: a pane holds what its predecessors held. Early panes are dropped when the watermark
 *   passes the window, since the on-time pane repeats them (not the last one of a trigger that has finished); a newer
 *   pane of the same key of a KV, or of the only element that a window has, takes the place of the older one.
 * - Updating, DISCARDING: the pane that came last is the content. Elements of one pane have the same pane index;
 *   where no trigger has fired, the same timestamp (one tick of a periodic source).
 * - Updating, ACCUMULATING: as before by pane index, for each key of a KV on its own; unfired elements add up.
 *
 * Source: Java's runners group a side input once more under its trigger and let each firing replace the window's
 * content (SideInputContainer, SideInputHandler); the Python SDK's `test_multi_triggered_gbk_side_input` wants all
 * discarded panes of a window.
 */
import type { PaneInfo } from "../../../coders/pane-info.ts";
import type { WindowingSpec } from "../../../graph/execution-graph.ts";
import type { Timestamp } from "../../../time/timestamp.ts";

export type Replacement =
  /** Adds to what is there. */
  | "add"
  /** Takes the place of whatever has another rank. */
  | "latest"
  /** Takes the place of lower ranks of its unit; is nothing where a higher rank is there. */
  | "newer"
  /** As `newer`, but is added where a higher rank is there. */
  | "newer-or-add"
  /** Takes the place of a lower rank when that is a single element. */
  | "single";

export interface PaneRule {
  readonly replacement: Replacement;
  /** Elements are told apart by the KV's key. */
  readonly perKey: boolean;
  readonly rank: number;
  /** To be dropped at the end of the window. */
  readonly early: boolean;
}

const ADD: PaneRule = { replacement: "add", perKey: false, rank: 0, early: false };

export interface PanePolicy {
  rule(pane: PaneInfo, timestamp: Timestamp): PaneRule;
}

export function panePolicy(windowing: WindowingSpec, updating: boolean, isKeyValue: boolean): PanePolicy {
  const accumulates = windowing.accumulationMode !== "DISCARDING";
  const dropsEarly = windowing.onTimeBehavior === "FIRE_ALWAYS";
  if (!updating && !accumulates) return { rule: () => ADD };
  if (!updating)
    return {
      rule: (pane) =>
        pane.timing === "UNKNOWN"
          ? ADD
          : {
              replacement: isKeyValue ? "newer-or-add" : "single",
              perKey: isKeyValue,
              rank: pane.index,
              early: dropsEarly && pane.timing === "EARLY" && !pane.isLast,
            },
    };
  if (!accumulates)
    return {
      rule: (pane, timestamp) => ({
        replacement: "latest",
        perKey: false,
        rank: pane.timing === "UNKNOWN" ? timestamp : pane.index,
        early: false,
      }),
    };
  return {
    rule: (pane) =>
      pane.timing === "UNKNOWN" ? ADD : { replacement: "newer", perKey: isKeyValue, rank: pane.index, early: false },
  };
}
