/**
 * Merges the windows of one key's records in a loaded block: sessions here, those of a custom WindowFn by asking who
 * can (the SDK harness). Each merged window's records are chained anew.
 */
import { WeirError } from "../../base/errors.ts";
import { decodeExactIntervalWindow, decodeIntervalWindow, encodeIntervalWindow } from "../../coders/interval-window.ts";
import { mergeIntervals } from "../../time/window-merging.ts";
import type { Group } from "./group-encoder.ts";
import {
  type Block,
  HASH,
  headerBytesOf,
  NO_RECORD,
  TIMESTAMP_HIGH,
  TIMESTAMP_LOW,
  VALUE_LENGTH,
  WINDOW_LENGTH,
} from "./record-partition.ts";

/**
 * Merges the distinct windows of one key, as encoded. A window that no `consumed` names stays as it is.
 */
export type MergeWindows = (
  windows: Uint8Array[],
) => Promise<readonly { readonly merged: Uint8Array; readonly consumed: readonly Uint8Array[] }[]>;

export interface KeyWindowMergerInit {
  readonly keepTimestamps: boolean;
  readonly latest: boolean;
  /** Undefined for sessions. */
  readonly mergeWindows: MergeWindows | undefined;
}

/** For each window the encoded one that it becomes part of; `targets` index `merged`. */
export interface MergedWindows {
  readonly merged: readonly Uint8Array[];
  readonly targets: ArrayLike<number>;
}

export class KeyWindowMerger {
  readonly #init: KeyWindowMergerInit;
  readonly #headerBytes: number;

  constructor(init: KeyWindowMergerInit) {
    this.#init = init;
    this.#headerBytes = headerBytesOf(init.keepTimestamps);
  }

  /** The group of a key as groups of its merged windows. Changes the records' chain. */
  async merge(block: Block, group: Group): Promise<readonly Group[]> {
    const { words, bytes } = block;
    const records: number[] = [];
    for (let at = group.first; at !== NO_RECORD; at = words[at + HASH] as number) records.push(at);
    const windowStart = (group.first << 2) + this.#headerBytes;
    const windowEnd = windowStart + (words[group.first + WINDOW_LENGTH] as number);
    if (records.every((at) => this.#hasWindow(block, at, windowStart, windowEnd)))
      return [{ ...group, windows: bytes, windowStart, windowEnd }];
    const { merged, targets } =
      this.#init.mergeWindows === undefined
        ? this.#mergeSessions(block, records)
        : await this.#mergeCustom(block, records, this.#init.mergeWindows);
    return this.#chain(block, records, merged, targets);
  }

  #hasWindow({ words, bytes }: Block, at: number, windowStart: number, windowEnd: number): boolean {
    if ((words[at + WINDOW_LENGTH] as number) !== windowEnd - windowStart) return false;
    const start = (at << 2) + this.#headerBytes;
    for (let index = 0; index < windowEnd - windowStart; index++)
      if (bytes[start + index] !== bytes[windowStart + index]) return false;
    return true;
  }

  #mergeSessions({ bytes }: Block, records: readonly number[]): MergedWindows {
    const starts = new Float64Array(records.length);
    const ends = new Float64Array(records.length);
    for (let index = 0; index < records.length; index++) {
      const at = ((records[index] as number) << 2) + this.#headerBytes;
      const { start, end } = decodeIntervalWindow(bytes, at);
      // Elements without timestamps lie at Beam's minimum, where a number is not exact.
      if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end)) return this.#mergeExactSessions(bytes, records);
      starts[index] = start;
      ends[index] = end;
    }
    const { merged, targets } = mergeIntervals(starts, ends);
    return { merged: merged.map(encodeIntervalWindow), targets };
  }

  #mergeExactSessions(bytes: Buffer, records: readonly number[]): MergedWindows {
    const windows = records.map((at) => decodeExactIntervalWindow(bytes, (at << 2) + this.#headerBytes));
    const { merged, targets } = mergeIntervals(
      windows.map(({ start }) => start),
      windows.map(({ end }) => end),
    );
    return { merged: merged.map(encodeIntervalWindow), targets };
  }

  async #mergeCustom({ bytes, words }: Block, records: readonly number[], merge: MergeWindows): Promise<MergedWindows> {
    const distinct = new DistinctWindows();
    const windowOf = records.map((at) => {
      const start = (at << 2) + this.#headerBytes;
      return distinct.add(bytes, start, start + (words[at + WINDOW_LENGTH] as number));
    });
    const { merged, targets } = await mergeDistinct(distinct, merge);
    return { merged, targets: windowOf.map((index) => targets[index] as number) };
  }

  #chain(
    { words }: Block,
    records: readonly number[],
    merged: readonly Uint8Array[],
    targets: ArrayLike<number>,
  ): Group[] {
    const groups = merged.map((windows): Group => ({
      windows,
      windowStart: 0,
      windowEnd: windows.length,
      first: NO_RECORD,
      count: 0,
      valueBytes: 0,
      timestampHigh: 0,
      timestampLow: 0,
    }));
    const last = new Int32Array(merged.length);
    for (let index = 0; index < records.length; index++) {
      const at = records[index] as number;
      const target = targets[index] as number;
      const group = groups[target] as Group;
      if (group.first === NO_RECORD) group.first = at;
      else words[(last[target] as number) + HASH] = at;
      last[target] = at;
      words[at + HASH] = NO_RECORD;
      if (this.#init.keepTimestamps) combineTimestamp(group, words, at, this.#init.latest);
      group.count++;
      group.valueBytes += words[at + VALUE_LENGTH] as number;
    }
    return groups.filter(({ count }) => count > 0);
  }
}

/** Makes the group's timestamp the latest or earliest of it and the record's. The first record's is taken as it is. */
export function combineTimestamp(group: Group, words: Int32Array, at: number, latest: boolean): void {
  const high = (words[at + TIMESTAMP_HIGH] as number) >>> 0;
  const low = (words[at + TIMESTAMP_LOW] as number) >>> 0;
  const isLater = high === group.timestampHigh ? low > group.timestampLow : high > group.timestampHigh;
  if (group.count > 0 && isLater !== latest) return;
  group.timestampHigh = high;
  group.timestampLow = low;
}

/** Encoded windows, each once. */
export class DistinctWindows {
  readonly windows: Uint8Array[] = [];
  readonly #indexOf = new Map<string, number>();

  /** @returns the window's index. */
  add(bytes: Buffer, start: number, end: number): number {
    const name = bytes.toString("latin1", start, end);
    let index = this.#indexOf.get(name);
    if (index === undefined) {
      index = this.windows.length;
      this.#indexOf.set(name, index);
      this.windows.push(new Uint8Array(bytes.subarray(start, end)));
    }
    return index;
  }

  indexOf(window: Uint8Array): number | undefined {
    return this.#indexOf.get(Buffer.from(window.buffer, window.byteOffset, window.byteLength).toString("latin1"));
  }
}

/** Asks `merge` and checks what it says. @throws WeirError when it names a window that was not asked about. */
export async function mergeDistinct(distinct: DistinctWindows, merge: MergeWindows): Promise<MergedWindows> {
  const { windows } = distinct;
  const merged: Uint8Array[] = [];
  const targets = new Int32Array(windows.length).fill(-1);
  if (windows.length > 1)
    for (const { merged: window, consumed } of await merge([...windows])) {
      for (const part of consumed) {
        const index = distinct.indexOf(part);
        if (index === undefined)
          throw new WeirError({
            code: "INTERNAL",
            domain: "user",
            message: "A WindowFn merged a window that the key's elements do not have.",
            hint: "Its merge() may only name windows of the merge context, and its window coder must be deterministic.",
          });
        targets[index] = merged.length;
      }
      merged.push(window);
    }
  windows.forEach((window, index) => {
    if (targets[index] === -1) targets[index] = merged.push(window) - 1;
  });
  return { merged, targets };
}
