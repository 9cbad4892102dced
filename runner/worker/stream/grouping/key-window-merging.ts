/**
 * Merging windows: the elements of a chunk key by key; the windows of a key merged when a new one comes, sessions
 * here and those of a custom WindowFn by asking who can (the SDK harness); then the elements, each in the window that
 * its own became part of.
 *
 * Only windows whose trigger has not finished merge. A window that came out of a merge counts its panes anew.
 * Source: mergeWindows and OnMergeCallback of ReduceFnRunner of the Java reference.
 */
import type { KeyedLayout } from "../../../coders/key-slice.ts";
import { newKeyedPositions } from "../../../coders/key-slice.ts";
import { decodeExactIntervalWindow, encodeIntervalWindow } from "../../../coders/interval-window.ts";
import {
  DistinctWindows,
  mergeDistinct,
  type MergedWindows,
  type MergeWindows,
} from "../../../state/grouping/merge-windows-of-key.ts";
import { readTimestamp, type Timestamp } from "../../../time/timestamp.ts";
import { mergeIntervals } from "../../../time/window-merging.ts";
import type { Trigger, TriggerContext } from "../../../triggers/trigger.ts";
import type { GroupStore } from "./group-store.ts";
import type { WatermarkHolds, Watermarks } from "./watermark-holds.ts";
import type { WindowGroup } from "./window-group.ts";

export interface KeyWindowMergingInit {
  readonly layout: KeyedLayout;
  readonly trigger: Trigger;
  readonly store: GroupStore;
  readonly holds: WatermarkHolds;
  /** Undefined for sessions. */
  readonly mergeWindows: MergeWindows | undefined;
}

export interface MergedElements {
  onElement(group: WindowGroup, valueStart: number, valueEnd: number, timestamp: Timestamp): void;
  /** An element in a window that has expired. */
  onLate(): void;
}

/** The elements of one key in a chunk. */
interface KeyElements {
  readonly key: Uint8Array;
  /** Of each: position, windows' start and count, value's start and end. */
  readonly positions: number[];
}

/** The windows of a chunk's elements of one key, and of the key before. */
interface KeyWindows {
  readonly distinct: DistinctWindows;
  /** For each element its windows that have not expired, as indices of the distinct ones. */
  readonly ofElements: number[][];
  readonly mustMerge: boolean;
}

const FIELDS = 5;

export class KeyWindowMerging {
  readonly #init: KeyWindowMergingInit;

  constructor(init: KeyWindowMergingInit) {
    this.#init = init;
  }

  /**
   * @param context of the step: watermark and processing time
   * @returns a promise when a harness has to be asked
   */
  add(
    bytes: Buffer,
    watermarks: Watermarks,
    context: TriggerContext,
    elements: MergedElements,
  ): Promise<void> | undefined {
    const keys = this.#byKey(bytes);
    if (this.#init.mergeWindows !== undefined)
      return this.#addCustom(bytes, keys, watermarks, context, elements, this.#init.mergeWindows);
    for (const ofKey of keys) {
      const windows = this.#windowsOf(bytes, ofKey, watermarks, elements);
      const merged = windows.mustMerge ? mergeSessions(windows.distinct.windows) : unmerged(windows.distinct);
      this.#addKey(bytes, ofKey, windows, merged, watermarks, context, elements);
    }
    return undefined;
  }

  async #addCustom(
    bytes: Buffer,
    keys: readonly KeyElements[],
    watermarks: Watermarks,
    context: TriggerContext,
    elements: MergedElements,
    mergeWindows: MergeWindows,
  ): Promise<void> {
    for (const ofKey of keys) {
      const windows = this.#windowsOf(bytes, ofKey, watermarks, elements);
      const { distinct, mustMerge } = windows;
      const merged = mustMerge ? await mergeDistinct(distinct, mergeWindows) : unmerged(distinct);
      this.#addKey(bytes, ofKey, windows, merged, watermarks, context, elements);
    }
  }

  #byKey(bytes: Buffer): KeyElements[] {
    const { layout } = this.#init;
    const read = newKeyedPositions();
    const keys = new Map<string, KeyElements>();
    for (let at = 0; at < bytes.length;) {
      const end = layout.read(bytes, at, read);
      const { header, keyEnd } = read;
      const name = bytes.toString("latin1", header.valueStart, keyEnd);
      let ofKey = keys.get(name);
      if (ofKey === undefined) {
        ofKey = { key: bytes.subarray(header.valueStart, keyEnd), positions: [] };
        keys.set(name, ofKey);
      }
      ofKey.positions.push(at, header.windowsStart, header.windowCount, keyEnd, end);
      at = end;
    }
    return [...keys.values()];
  }

  #windowsOf(
    bytes: Buffer,
    { key, positions }: KeyElements,
    { input }: Watermarks,
    elements: MergedElements,
  ): KeyWindows {
    const { store, layout } = this.#init;
    const { windowSkip } = layout.windowed;
    const distinct = new DistinctWindows();
    const ofElements: number[][] = [];
    for (let at = 0; at < positions.length; at += FIELDS) {
      const ofElement: number[] = [];
      let windowStart = positions[at + 1] as number;
      for (let left = positions[at + 2] as number; left > 0; left--) {
        const windowEnd = windowSkip(bytes, windowStart);
        if (store.hasExpired(bytes.subarray(windowStart, windowEnd), input)) elements.onLate();
        else ofElement.push(distinct.add(bytes, windowStart, windowEnd));
        windowStart = windowEnd;
      }
      ofElements.push(ofElement);
    }
    const isNew = distinct.windows.some((window) => store.findOf(window, key)?.isClosed !== false);
    if (isNew) for (const { id, windowLength } of store.activeOf(key)) distinct.add(Buffer.from(id), 0, windowLength);
    return { distinct, ofElements, mustMerge: isNew && distinct.windows.length > 1 };
  }

  #addKey(
    bytes: Buffer,
    { key, positions }: KeyElements,
    { distinct, ofElements, mustMerge }: KeyWindows,
    { merged, targets }: MergedWindows,
    watermarks: Watermarks,
    context: TriggerContext,
    elements: MergedElements,
  ): void {
    const { store } = this.#init;
    if (mustMerge) {
      const sources = merged.map((): WindowGroup[] => []);
      distinct.windows.forEach((window, index) => {
        const group = store.findOf(window, key);
        if (group?.isClosed === false) (sources[targets[index] as number] as WindowGroup[]).push(group);
      });
      sources.forEach((groups, index) => this.#merge(merged[index] as Uint8Array, key, groups, watermarks, context));
    }
    ofElements.forEach((windows, index) => {
      const at = index * FIELDS;
      const timestamp = readTimestamp(bytes, positions[at] as number);
      for (const target of new Set(windows.map((window) => targets[window] as number))) {
        const group = this.#groupOf(merged[target] as Uint8Array, key, watermarks.input);
        elements.onElement(group, positions[at + 3] as number, positions[at + 4] as number, timestamp);
      }
    });
  }

  #groupOf(window: Uint8Array, key: Uint8Array, inputWatermark: Timestamp): WindowGroup {
    const { store } = this.#init;
    const known = store.findOf(window, key);
    if (known !== undefined) return known;
    const group = store.createOf(window, key);
    store.scheduleEventTime(group, inputWatermark);
    return group;
  }

  /** Makes the groups of windows that become one a single group. */
  #merge(
    window: Uint8Array,
    key: Uint8Array,
    sources: readonly WindowGroup[],
    watermarks: Watermarks,
    context: TriggerContext,
  ): void {
    const { store, trigger, holds } = this.#init;
    const [first] = sources;
    if (first === undefined) return;
    const known = store.findOf(window, key);
    if (sources.length === 1 && known === first) return;
    const target = known ?? store.createOf(window, key);
    target.trigger = trigger.onMerge({
      state: target.trigger,
      windowMaxTimestamp: target.maxTimestamp,
      inputWatermark: watermarks.input,
      processingTimeMs: context.processingTimeMs,
      sources: sources.map((source) => source.trigger),
    });
    holds.merge(target, sources, watermarks);
    target.hasNew = sources.some(({ hasNew }) => hasNew);
    moveValues(target, sources);
    for (const source of sources) if (source !== target) store.remove(source);
    if (trigger.isClosed(target.trigger)) {
      target.isClosed = true;
      target.values.clear();
      target.elementHold = undefined;
      target.extraHold = undefined;
      store.noteClosed(target);
    } else if (target.isClosed) {
      target.isClosed = false;
      store.noteOpen(target);
    }
    store.updateHold(target);
    store.scheduleEventTime(target, watermarks.input);
    store.scheduleProcessingTime(target, context.processingTimeMs);
    store.markDirty(target);
  }
}

/** The larger of the buffers stays where it is, so that a growing session is not copied by each element. */
function moveValues(target: WindowGroup, sources: readonly WindowGroup[]): void {
  const groups = sources.includes(target) ? sources : [target, ...sources];
  const largest = groups.reduce((most, group) => (group.values.byteLength > most.values.byteLength ? group : most));
  for (const group of groups) if (group !== largest) largest.values.take(group.values);
  if (largest === target) return;
  const { values } = target;
  target.values = largest.values;
  largest.values = values;
}

function unmerged({ windows }: DistinctWindows): MergedWindows {
  return { merged: windows, targets: windows.map((_, index) => index) };
}

function mergeSessions(encoded: readonly Uint8Array[]): MergedWindows {
  // Elements without timestamps lie at Beam's minimum, where a number is not exact.
  const windows = encoded.map((window) => decodeExactIntervalWindow(window, 0));
  const { merged, targets } = mergeIntervals(
    windows.map(({ start }) => start),
    windows.map(({ end }) => end),
  );
  return { merged: merged.map(encodeIntervalWindow), targets };
}
