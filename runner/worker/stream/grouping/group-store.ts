/**
 * The window groups of a task: found by window and key, by the next event or processing time at which something may
 * happen to them, and by the hold that they put on the output watermark; and their rows. Everything but the rows is
 * built anew from them after a restore.
 *
 * Rows: key group, "w", window, key: the group. Key group, "v", window, key, number: its values. No key group, "t":
 * the output watermark.
 */
import { hashBytes, keyGroupOf } from "../../../coders/key-group.ts";
import type { Skip } from "../../../coders/element-boundary.ts";
import { keyGroupPrefix, NO_KEY_GROUP, type StateTable } from "../../../state/state-rows.ts";
import { MAX_TIMESTAMP, MIN_TIMESTAMP, type Timestamp } from "../../../time/timestamp.ts";
import type { Trigger } from "../../../triggers/trigger.ts";
import { GroupTable } from "./group-table.ts";
import { TimeIndex } from "./time-index.ts";
import { ValueBuffer } from "./value-buffer.ts";
import { decodeGroup, encodeGroup, ownValuesPrefix, WindowGroup } from "./window-group.ts";
import { garbageCollectionTime, type WindowTimes } from "./window-times.ts";

export interface GroupStoreInit {
  readonly table: StateTable;
  readonly trigger: Trigger;
  readonly windowTimes: WindowTimes;
  readonly windowSkip: Skip;
  readonly allowedLatenessMs: number;
  readonly maxParallelism: number;
  /** Whether to know the windows of each key. */
  readonly isMerging: boolean;
}

const OUTPUT_WATERMARK_ROW = `${NO_KEY_GROUP}t`;

export class GroupStore {
  readonly #init: GroupStoreInit;
  readonly #groups = new GroupTable();
  readonly #eventTimes = new TimeIndex<WindowGroup>();
  readonly #processingTimes = new TimeIndex<WindowGroup>();
  readonly #holds = new TimeIndex<WindowGroup>();
  /** Of merging windows: those of a key that are not closed. */
  readonly #ofKey = new Map<string, Set<WindowGroup>>();
  readonly #dirty = new Set<WindowGroup>();
  #flushedWatermark: number | undefined;
  #nextPlace = 1;
  /** Where the output watermark stood when the last step ended. */
  outputWatermark: Timestamp = MIN_TIMESTAMP;

  constructor(init: GroupStoreInit) {
    this.#init = init;
    this.#restore();
  }

  get size(): number {
    return this.#groups.size;
  }

  find(hash: number, bytes: Uint8Array, windowStart: number, windowEnd: number, keyStart: number, keyEnd: number) {
    return this.#groups.find(hash, bytes, windowStart, windowEnd, keyStart, keyEnd);
  }

  /** The group of an encoded window and a key. */
  findOf(window: Uint8Array, key: Uint8Array): WindowGroup | undefined {
    const id = concatenated(window, key);
    return this.find(hashOf(id, window.length), id, 0, window.length, window.length, id.length);
  }

  /**
   * A new group, in no index but by its window and key.
   * @returns undefined where the window has expired
   */
  create(
    hash: number,
    bytes: Buffer,
    windowStart: number,
    windowEnd: number,
    keyStart: number,
    keyEnd: number,
    inputWatermark: Timestamp,
  ): WindowGroup | undefined {
    const { windowTimes, allowedLatenessMs, maxParallelism } = this.#init;
    const maxTimestamp = windowTimes.maxTimestamp(bytes, windowStart);
    const garbageTime = garbageCollectionTime(maxTimestamp, allowedLatenessMs);
    if (garbageTime < inputWatermark) return undefined;
    const windowLength = windowEnd - windowStart;
    const id = new Uint8Array(windowLength + keyEnd - keyStart);
    for (let index = 0; index < windowLength; index++) id[index] = bytes[windowStart + index] as number;
    for (let index = windowLength; index < id.length; index++)
      id[index] = bytes[keyStart + index - windowLength] as number;
    const prefix = keyGroupPrefix(keyGroupOf(hashBytes(bytes, keyStart, keyEnd), maxParallelism));
    const name = bytes.toString("latin1", windowStart, windowEnd) + bytes.toString("latin1", keyStart, keyEnd);
    return this.#insert(id, windowLength, hash, `${prefix}w${name}`, maxTimestamp, garbageTime);
  }

  /** As `create`, whatever the time. */
  createOf(window: Uint8Array, key: Uint8Array): WindowGroup {
    const id = concatenated(window, key);
    const end = window.length;
    return this.create(hashOf(id, end), id, 0, end, end, id.length, MIN_TIMESTAMP) as WindowGroup;
  }

  hasExpired(window: Uint8Array, inputWatermark: Timestamp): boolean {
    const { windowTimes, allowedLatenessMs } = this.#init;
    return garbageCollectionTime(windowTimes.maxTimestamp(window, 0), allowedLatenessMs) < inputWatermark;
  }

  /** Of merging windows: those of the key that may merge. */
  activeOf(key: Uint8Array): Iterable<WindowGroup> {
    return this.#ofKey.get(latin1(key)) ?? [];
  }

  /** The next time at which the watermark has something to do with the group: the window's end, or its expiry. */
  scheduleEventTime(group: WindowGroup, inputWatermark: Timestamp): void {
    const { maxTimestamp, garbageTime } = group;
    if (inputWatermark > maxTimestamp && !group.hasEnded) {
      group.hasEnded = true;
      this.markDirty(group);
    }
    const time = group.hasEnded ? garbageTime : Math.min(maxTimestamp, garbageTime);
    if (time === group.eventTime) return;
    if (group.eventTime !== undefined) this.#eventTimes.remove(group.eventTime, group);
    group.eventTime = time;
    this.#eventTimes.add(time, group);
  }

  /** What processing time has done already by `nowMs` is not waited for. */
  scheduleProcessingTime(group: WindowGroup, nowMs: number): void {
    const time = group.isClosed ? undefined : this.#init.trigger.nextProcessingTimeMs(group.trigger, nowMs);
    if (time === group.processingTime) return;
    if (group.processingTime !== undefined) this.#processingTimes.remove(group.processingTime, group);
    group.processingTime = time;
    if (time !== undefined) this.#processingTimes.add(time, group);
  }

  /** After the group's holds have changed. */
  updateHold(group: WindowGroup): void {
    const { elementHold, extraHold } = group;
    const hold = elementHold === undefined || (extraHold as number) < elementHold ? extraHold : elementHold;
    if (hold === group.hold) return;
    if (group.hold !== undefined) this.#holds.remove(group.hold, group);
    group.hold = hold;
    if (hold !== undefined) this.#holds.add(hold, group);
  }

  /** Closed for good: it merges with nothing, and waits for its expiry. */
  noteClosed(group: WindowGroup): void {
    this.#forgetOfKey(group);
  }

  /** It may merge, again or for the first time. */
  noteOpen(group: WindowGroup): void {
    if (!this.#init.isMerging) return;
    const name = latin1(group.key);
    const ofKey = this.#ofKey.get(name);
    if (ofKey === undefined) this.#ofKey.set(name, new Set([group]));
    else ofKey.add(group);
  }

  get hold(): Timestamp {
    return (this.#holds.min ?? MAX_TIMESTAMP) as Timestamp;
  }

  get nextProcessingTimeMs(): number | undefined {
    return this.#processingTimes.min;
  }

  /** Takes the groups whose event time lies before the watermark, in its order. */
  *takeByEventTime(inputWatermark: Timestamp): Generator<WindowGroup> {
    for (let time = this.#eventTimes.min; time !== undefined && time < inputWatermark; time = this.#eventTimes.min)
      for (const group of this.#eventTimes.takeMin()) {
        group.eventTime = undefined;
        yield group;
      }
  }

  /** Takes the groups whose processing time has come, in its order. */
  *takeByProcessingTime(nowMs: number): Generator<WindowGroup> {
    for (let time = this.#processingTimes.min; time !== undefined && time <= nowMs; time = this.#processingTimes.min)
      for (const group of this.#processingTimes.takeMin()) {
        group.processingTime = undefined;
        yield group;
      }
  }

  markDirty(group: WindowGroup): void {
    if (group.isDirty) return;
    group.isDirty = true;
    this.#dirty.add(group);
  }

  /** Forgets a group and all its rows. */
  remove(group: WindowGroup): void {
    group.isRemoved = true;
    this.#groups.remove(group);
    this.#forgetOfKey(group);
    group.values.clear();
    if (group.isDirty) this.#dirty.delete(group);
    if (group.isStored) this.#init.table.delete(group.rowKey);
    if (group.eventTime !== undefined) this.#eventTimes.remove(group.eventTime, group);
    if (group.processingTime !== undefined) this.#processingTimes.remove(group.processingTime, group);
    if (group.hold !== undefined) this.#holds.remove(group.hold, group);
  }

  /** Puts into the table what has changed since the last time. */
  flush(): void {
    const { table, trigger } = this.#init;
    for (const group of this.#dirty) {
      group.isDirty = false;
      group.isStored = true;
      group.values.flush();
      table.put(group.rowKey, encodeGroup(group, trigger));
    }
    this.#dirty.clear();
    if (this.#flushedWatermark === this.outputWatermark) return;
    this.#flushedWatermark = this.outputWatermark;
    const watermark = Buffer.alloc(8);
    watermark.writeDoubleBE(this.outputWatermark);
    table.put(OUTPUT_WATERMARK_ROW, watermark);
  }

  #insert(
    id: Uint8Array,
    windowLength: number,
    hash: number,
    rowKey: string,
    maxTimestamp: Timestamp,
    garbageTime: Timestamp,
  ): WindowGroup {
    const { table, trigger, isMerging } = this.#init;
    // Values outlive their window where it merges, so a later window of the same name needs another place.
    const place = isMerging ? String.fromCharCode(...uint32(this.#nextPlace++)) : "";
    const values = new ValueBuffer(table, ownValuesPrefix(rowKey) + place);
    const times = { maxTimestamp, garbageTime };
    const group = new WindowGroup(id, windowLength, hash, rowKey, times, values, trigger.newState());
    this.#groups.insert(group);
    this.noteOpen(group);
    return group;
  }

  #forgetOfKey(group: WindowGroup): void {
    if (!this.#init.isMerging) return;
    const name = latin1(group.key);
    const ofKey = this.#ofKey.get(name);
    if (ofKey?.delete(group) === true && ofKey.size === 0) this.#ofKey.delete(name);
  }

  #restore(): void {
    const { table, trigger, windowSkip, windowTimes, allowedLatenessMs } = this.#init;
    for (const [rowKey, row] of table.entries()) {
      if (rowKey === OUTPUT_WATERMARK_ROW)
        this.outputWatermark = Buffer.from(row.buffer, row.byteOffset, 8).readDoubleBE() as Timestamp;
      if (rowKey[2] !== "w") continue;
      const id = Buffer.from(rowKey.slice(3), "latin1");
      const windowLength = windowSkip(id, 0);
      const maxTimestamp = windowTimes.maxTimestamp(id, 0);
      const garbageTime = garbageCollectionTime(maxTimestamp, allowedLatenessMs);
      const group = this.#insert(id, windowLength, hashOf(id, windowLength), rowKey, maxTimestamp, garbageTime);
      decodeGroup(group, row, trigger, table);
      this.#nextPlace = Math.max(this.#nextPlace, placeOf(group) + 1);
      if (group.isClosed) this.noteClosed(group);
      // What has become due since is found by the first `advance`.
      this.scheduleEventTime(group, MIN_TIMESTAMP);
      this.scheduleProcessingTime(group, Number.NEGATIVE_INFINITY);
      this.updateHold(group);
    }
  }
}

function hashOf(id: Uint8Array, windowLength: number): number {
  return hashBytes(id, 0, windowLength, hashBytes(id, windowLength, id.length));
}

function placeOf({ values, rowKey }: WindowGroup): number {
  const { rowPrefix } = values;
  if (rowPrefix === ownValuesPrefix(rowKey)) return 0;
  return Buffer.from(rowPrefix.slice(-4), "latin1").readUInt32BE();
}

function uint32(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
}

function concatenated(window: Uint8Array, key: Uint8Array): Buffer {
  const id = Buffer.allocUnsafeSlow(window.length + key.length);
  id.set(window, 0);
  id.set(key, window.length);
  return id;
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
