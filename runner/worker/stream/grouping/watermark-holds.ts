/**
 * How a window's panes hold the output watermark back, and what timestamp a pane gets: that of the earliest hold, so
 * that it is not late for whoever comes next.
 *
 * An element holds by the timestamp combiner, unless it came too late for that; then, or where an empty last pane
 * will be emitted, there is a hold until the window's expiry. Source: WatermarkHold of the Java reference.
 */
import type { WindowingSpec } from "../../../graph/execution-graph.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../../time/timestamp.ts";
import type { WindowGroup } from "./window-group.ts";

export interface Watermarks {
  readonly input: Timestamp;
  readonly output: Timestamp;
}

export class WatermarkHolds {
  readonly #combiner: WindowingSpec["timestampCombiner"];
  readonly #closingBehavior: WindowingSpec["closingBehavior"];

  constructor(windowing: WindowingSpec) {
    this.#combiner = windowing.timestampCombiner;
    this.#closingBehavior = windowing.closingBehavior;
  }

  /** For an element that is added. @returns whether a hold has changed. */
  add(group: WindowGroup, timestamp: Timestamp, watermarks: Watermarks): boolean {
    const { elementHold } = group;
    if (elementHold !== undefined && this.#combiner === "END_OF_WINDOW") return false;
    if (this.#addElementHold(group, timestamp, watermarks)) return group.elementHold !== elementHold;
    const { extraHold } = group;
    this.#addGarbageHold(group, watermarks.input);
    return group.extraHold !== extraHold;
  }

  /** For a window that others have become. @param sources their groups, `target` may be among them */
  merge(target: WindowGroup, sources: readonly WindowGroup[], watermarks: Watermarks): void {
    const holds = sources.flatMap(({ elementHold }) => (elementHold === undefined ? [] : [elementHold]));
    target.elementHold = undefined;
    target.extraHold = undefined;
    if (holds.length > 0) {
      if (this.#combiner === "END_OF_WINDOW") this.#addElementHold(target, target.maxTimestamp, watermarks);
      else target.elementHold = this.#combiner === "LATEST_IN_PANE" ? Math.max(...holds) : Math.min(...holds);
    }
    this.#addGarbageHold(target, watermarks.input);
  }

  /** Takes the holds for a pane. @returns the pane's timestamp. */
  release(group: WindowGroup, isFinished: boolean, watermarks: Watermarks): Timestamp {
    const { elementHold, extraHold, maxTimestamp } = group;
    const hold = Math.min(elementHold ?? maxTimestamp, extraHold ?? maxTimestamp, maxTimestamp);
    group.elementHold = undefined;
    group.extraHold = undefined;
    if (!isFinished && this.#closingBehavior === "EMIT_ALWAYS") this.#addGarbageHold(group, watermarks.input);
    return hold as Timestamp;
  }

  #addElementHold(group: WindowGroup, timestamp: Timestamp, { input, output }: Watermarks): boolean {
    const { elementHold, maxTimestamp } = group;
    const hold = this.#combiner === "END_OF_WINDOW" ? maxTimestamp : timestamp;
    if (hold < output || maxTimestamp < input) return false;
    if (elementHold === undefined) group.elementHold = hold;
    else if (this.#combiner === "LATEST_IN_PANE") group.elementHold = Math.max(elementHold, hold);
    else group.elementHold = Math.min(elementHold, hold);
    return true;
  }

  #addGarbageHold(group: WindowGroup, inputWatermark: Timestamp): void {
    if (group.garbageTime < inputWatermark) return;
    // Held at the end of time it would never be released.
    const hold = group.garbageTime >= MAX_TIMESTAMP ? MAX_TIMESTAMP - 2 : group.garbageTime;
    group.extraHold = group.extraHold === undefined ? hold : Math.min(group.extraHold, hold);
  }
}
