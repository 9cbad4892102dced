/**
 * Fires panes: when a window's trigger is ready, and at the window's expiry whatever is left.
 *
 * Source: emit, onTrigger and needToEmit of ReduceFnRunner of the Java reference.
 */
import { encodePaneInfo } from "../../../coders/pane-info.ts";
import type { PaneInfo } from "../../../coders/pane-info.ts";
import type { WindowingSpec } from "../../../graph/execution-graph.ts";
import { type Timestamp, writeTimestamp } from "../../../time/timestamp.ts";
import type { Trigger, TriggerContext } from "../../../triggers/trigger.ts";
import type { GroupStore } from "./group-store.ts";
import { lastPaneOf, nextPane } from "./next-pane.ts";
import type { PaneEncoder } from "./pane-encoder.ts";
import type { Watermarks, WatermarkHolds } from "./watermark-holds.ts";
import type { WindowGroup } from "./window-group.ts";
import type { WindowTimes } from "./window-times.ts";

export interface PaneFiringInit {
  readonly windowing: WindowingSpec;
  readonly trigger: Trigger;
  readonly store: GroupStore;
  readonly holds: WatermarkHolds;
  readonly windowTimes: WindowTimes;
  readonly encoder: PaneEncoder;
}

export class PaneFiring {
  readonly #init: PaneFiringInit;

  constructor(init: PaneFiringInit) {
    this.#init = init;
  }

  /** The trigger is ready. @param context of the group */
  fire(group: WindowGroup, context: TriggerContext, watermarks: Watermarks): void {
    const { trigger, windowing, store } = this.#init;
    trigger.onFire(context);
    const isLast = trigger.isClosed(group.trigger);
    this.#emit(group, isLast, watermarks);
    group.hasNew = false;
    if (isLast || windowing.accumulationMode === "DISCARDING") group.values.clear();
    if (isLast) {
      group.isClosed = true;
      group.lastPane = undefined;
      store.noteClosed(group);
    }
    store.updateHold(group);
    store.markDirty(group);
  }

  /**
   * The window has expired: its last pane, if it has one still to come. The caller drops the group.
   * @returns how many elements are lost with it
   */
  expire(group: WindowGroup, watermarks: Watermarks): number {
    if (group.isClosed) return 0;
    if (this.#init.windowing.closingBehavior === "EMIT_NEVER") return group.hasNew ? group.values.valueCount : 0;
    this.#emit(group, true, watermarks);
    return 0;
  }

  #emit(group: WindowGroup, isLast: boolean, watermarks: Watermarks): void {
    const { holds, encoder, windowTimes } = this.#init;
    const timestamp = holds.release(group, isLast, watermarks);
    const pane = nextPane(group, isLast, watermarks);
    if (!group.hasNew && !this.#emitsEmpty(pane)) return;
    group.lastPane = lastPaneOf(pane);
    const write = (bytes: Uint8Array, at: number): void =>
      timestamp === group.maxTimestamp
        ? windowTimes.writeMaxTimestamp(group.id, bytes, at)
        : writeTimestamp(bytes, at, timestamp as Timestamp);
    encoder.add(group, write, encodePaneInfo(pane));
  }

  #emitsEmpty({ timing, isLast }: PaneInfo): boolean {
    const { onTimeBehavior, closingBehavior } = this.#init.windowing;
    if (timing === "ON_TIME" && onTimeBehavior === "FIRE_ALWAYS") return true;
    return isLast && closingBehavior === "EMIT_ALWAYS";
  }
}
