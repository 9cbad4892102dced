/**
 * What the grouping knows of one key and window, and its row: buffered values, trigger state, holds, the last pane.
 *
 * Row: flags (1 byte), rows of values, values and their bytes (varints), where the values are (varint length and
 * bytes; empty: under the window's own name), element hold and extra hold (8 bytes each, if any), the last pane's
 * timing, index and non-speculative index + 1 (1 byte and varints, if any), trigger state.
 */
import { readVarint, varintEnd, varintLength, writeVarint } from "../../../coders/byte-reader.ts";
import type { StateTable } from "../../../state/state-rows.ts";
import type { Timestamp } from "../../../time/timestamp.ts";
import type { Trigger, TriggerState } from "../../../triggers/trigger.ts";
import { ValueBuffer } from "./value-buffer.ts";

/** What decides the next pane's info: of the last one. */
export interface LastPane {
  /** 0 early, 1 on time, 2 late. */
  readonly timing: number;
  readonly index: number;
  /** -1 for early panes. */
  readonly nonSpeculativeIndex: number;
}

export class WindowGroup {
  /** The encoded window, then the encoded key. */
  readonly id: Uint8Array;
  readonly windowLength: number;
  /** Of the id. */
  readonly hash: number;
  /** Key group, "w", id. */
  readonly rowKey: string;
  readonly maxTimestamp: Timestamp;
  readonly garbageTime: Timestamp;
  values: ValueBuffer;
  trigger: TriggerState;
  /** Whether elements came since the last pane. */
  hasNew = false;
  /** Whether the watermark has passed the window's end; what it waits for then is the window's expiry. */
  hasEnded = false;
  /** Where the trigger has finished, all but this is gone: later elements are dropped. */
  isClosed = false;
  elementHold: number | undefined;
  /** Until garbage collection, for a pane that may come later than the window's end. */
  extraHold: number | undefined;
  lastPane: LastPane | undefined;

  // Not in the row: where it stands in the indexes.
  isStored = false;
  /** Expired, or merged into another. */
  isRemoved = false;
  isDirty = false;
  isTouched = false;
  eventTime: number | undefined;
  processingTime: number | undefined;
  hold: number | undefined;

  constructor(
    id: Uint8Array,
    windowLength: number,
    hash: number,
    rowKey: string,
    times: { readonly maxTimestamp: Timestamp; readonly garbageTime: Timestamp },
    values: ValueBuffer,
    trigger: TriggerState,
  ) {
    this.id = id;
    this.windowLength = windowLength;
    this.hash = hash;
    this.rowKey = rowKey;
    this.maxTimestamp = times.maxTimestamp;
    this.garbageTime = times.garbageTime;
    this.values = values;
    this.trigger = trigger;
  }

  get key(): Uint8Array {
    return this.id.subarray(this.windowLength);
  }
}

/** Where the values of a window are that no merge has touched. */
export function ownValuesPrefix(rowKey: string): string {
  return `${rowKey.slice(0, 2)}v${rowKey.slice(3)}`;
}

const HAS_NEW = 1;
const CLOSED = 2;
const ELEMENT_HOLD = 4;
const EXTRA_HOLD = 8;
const PANE = 16;
const ENDED = 32;

export function encodeGroup(group: WindowGroup, trigger: Trigger): Uint8Array {
  const { values, lastPane: pane } = group;
  const state = trigger.encodeState(group.trigger);
  const place = values.rowPrefix === ownValuesPrefix(group.rowKey) ? "" : values.rowPrefix;
  const numbers = [values.storedRowCount, values.valueCount, values.byteLength, place.length];
  const paneNumbers = pane === undefined ? [] : [pane.timing, pane.index, pane.nonSpeculativeIndex + 1];
  const holds = [group.elementHold, group.extraHold].filter((hold) => hold !== undefined);
  const varintBytes = [...numbers, ...paneNumbers].reduce((sum, number) => sum + varintLength(number), 0);
  const bytes = Buffer.alloc(1 + varintBytes + place.length + holds.length * 8 + state.length);
  bytes[0] =
    (group.hasNew ? HAS_NEW : 0) |
    (group.isClosed ? CLOSED : 0) |
    (group.elementHold === undefined ? 0 : ELEMENT_HOLD) |
    (group.extraHold === undefined ? 0 : EXTRA_HOLD) |
    (pane === undefined ? 0 : PANE) |
    (group.hasEnded ? ENDED : 0);
  let at = 1;
  for (const number of numbers) at = writeVarint(bytes, at, number);
  at += bytes.write(place, at, "latin1");
  for (const hold of holds) at = bytes.writeDoubleBE(hold, at);
  for (const number of paneNumbers) at = writeVarint(bytes, at, number);
  bytes.set(state, at);
  return bytes;
}

/** Gives a new group what its row says. */
export function decodeGroup(group: WindowGroup, row: Uint8Array, trigger: Trigger, table: StateTable): void {
  const bytes = Buffer.from(row.buffer, row.byteOffset, row.byteLength);
  const flags = bytes[0] as number;
  let at = 1;
  const next = (): number => {
    const value = readVarint(bytes, at, "window group");
    at = varintEnd(bytes, at, "window group");
    return value;
  };
  const nextHold = (flag: number): number | undefined => {
    if ((flags & flag) === 0) return undefined;
    at += 8;
    return bytes.readDoubleBE(at - 8);
  };
  const [rowCount, valueCount, byteLength, placeLength] = [next(), next(), next(), next()];
  const place = bytes.toString("latin1", at, at + placeLength);
  at += placeLength;
  const prefix = place === "" ? ownValuesPrefix(group.rowKey) : place;
  group.values = ValueBuffer.restore(table, prefix, rowCount, valueCount, byteLength);
  group.hasNew = (flags & HAS_NEW) !== 0;
  group.isClosed = (flags & CLOSED) !== 0;
  group.hasEnded = (flags & ENDED) !== 0;
  group.elementHold = nextHold(ELEMENT_HOLD);
  group.extraHold = nextHold(EXTRA_HOLD);
  if ((flags & PANE) !== 0) group.lastPane = { timing: next(), index: next(), nonSpeculativeIndex: next() - 1 };
  group.trigger = trigger.decodeState(bytes, at);
  group.isStored = true;
}
