/**
 * What to do with a partition that is larger than memory: distribute it again by other bits of the hash; or, where all
 * of it has one hash (in practice: one key), stream it. A streamed group's values become pages; a streamed key whose
 * windows still have to be merged is written anew under its merged windows.
 *
 * Invariant: memory is bounded by the pages being written and by one key's windows, not by the partition.
 */
import { present } from "../../base/assert.ts";
import { decodeExactIntervalWindow, encodeIntervalWindow } from "../../coders/interval-window.ts";
import { type Interval, mergeIntervals } from "../../time/window-merging.ts";
import type { Group } from "./group-encoder.ts";
import type { LargeGroups, LargeGroupWriter } from "./large-groups.ts";
import { combineTimestamp, DistinctWindows, mergeDistinct, type MergeWindows } from "./merge-windows-of-key.ts";
import { recordHash } from "./record-hash.ts";
import {
  type Block,
  contentBytesOf,
  headerBytesOf,
  KEY_LENGTH,
  recordBytesOf,
  type RecordPartition,
  TIMESTAMP_HIGH,
  TIMESTAMP_LOW,
  VALUE_LENGTH,
  WINDOW_LENGTH,
} from "./record-partition.ts";
import { type PartitionerInit, RecordPartitioner, sampleHeavyHashes } from "./record-partitioner.ts";

export interface OversizedInit {
  readonly keepTimestamps: boolean;
  readonly latest: boolean;
  readonly largeGroups: LargeGroups;
  readonly mergeWindows: MergeWindows | undefined;
  readonly partitioner: Omit<PartitionerInit, "level" | "heavyHashes">;
}

/** A group whose values have been written to pages. */
export interface StreamedGroup {
  readonly group: Group;
  readonly key: Buffer;
  readonly token: Buffer;
}

/** Intervals of one key are merged whenever so many have come together. */
const MERGE_EVERY = 64 * 1024;

/** Where a record's parts lie in its block. */
interface RecordPlace {
  at: number;
  recordBytes: number;
  windowStart: number;
  keyStart: number;
  valueStart: number;
  end: number;
}

export class OversizedPartition {
  readonly #init: OversizedInit;
  readonly #headerBytes: number;
  readonly #place: RecordPlace = { at: 0, recordBytes: 0, windowStart: 0, keyStart: 0, valueStart: 0, end: 0 };

  constructor(init: OversizedInit) {
    this.#init = init;
    this.#headerBytes = headerBytesOf(init.keepTimestamps);
  }

  /** Where the parts of the record at `start` lie: an object that is used again. Records are many; no generator. */
  #placeOf({ words }: Block, start: number): RecordPlace {
    const place = this.#place;
    place.at = start >> 2;
    place.recordBytes = recordBytesOf(this.#headerBytes, contentBytesOf(words, place.at));
    place.windowStart = start + this.#headerBytes;
    place.keyStart = place.windowStart + (words[place.at + WINDOW_LENGTH] as number);
    place.valueStart = place.keyStart + (words[place.at + KEY_LENGTH] as number);
    place.end = place.valueStart + (words[place.at + VALUE_LENGTH] as number);
    return place;
  }

  #eachRecord(block: Block, visit: (place: RecordPlace) => void): void {
    for (let start = 0; start < block.used;) {
      const place = this.#placeOf(block, start);
      start += place.recordBytes;
      visit(place);
    }
  }

  /** Distributes by the next bits of the hash. The partition is empty and closed then. */
  async distribute(partition: RecordPartition, level: number): Promise<RecordPartitioner> {
    const heavyHashes = await sampleHeavyHashes(partition, (block, visit) => {
      this.#eachRecord(block, ({ at, recordBytes }) => visit(at, recordBytes));
    });
    const target = new RecordPartitioner({ ...this.#init.partitioner, level, heavyHashes });
    return this.#fill(target, partition, (block, { at, recordBytes }) => {
      target.addRecord(block, at << 2, recordBytes);
    });
  }

  async #fill(
    target: RecordPartitioner,
    partition: RecordPartition,
    add: (block: Block, place: RecordPlace) => void,
  ): Promise<RecordPartitioner> {
    try {
      for await (const block of partition.scan()) {
        this.#eachRecord(block, (place) => add(block, place));
        const wait = target.relieve();
        if (wait !== undefined) await wait;
      }
      await target.seal();
      await partition.close();
      return target;
    } catch (failure) {
      await target.close();
      throw failure;
    }
  }

  /** Writes the values of a partition of one hash to pages, group by group. The partition is empty and closed then. */
  async stream(partition: RecordPartition): Promise<StreamedGroup[]> {
    const { largeGroups, keepTimestamps, latest } = this.#init;
    const groups: (GroupName & { group: Group; writer: LargeGroupWriter })[] = [];
    let found: (typeof groups)[number] | undefined;
    const { byteLength } = partition;
    for await (const block of partition.drain()) {
      const { bytes, words } = block;
      for (let start = 0; start < block.used;) {
        const { at, recordBytes, windowStart, keyStart, valueStart, end } = this.#placeOf(block, start);
        start += recordBytes;
        if (found === undefined || !isSame(found, bytes, windowStart, keyStart, valueStart))
          found = groups.find((each) => isSame(each, bytes, windowStart, keyStart, valueStart));
        if (found === undefined) {
          const window = Buffer.from(bytes.subarray(windowStart, keyStart));
          const key = Buffer.from(bytes.subarray(keyStart, valueStart));
          found = { group: emptyGroup(window), key, window, writer: largeGroups.begin(byteLength) };
          groups.push(found);
        }
        const { group, writer } = found;
        if (keepTimestamps) combineTimestamp(group, words, at, latest);
        group.count++;
        group.valueBytes += end - valueStart;
        const wait = writer.add(bytes, valueStart, end);
        if (wait !== undefined) await wait;
      }
    }
    for (const { writer } of groups) await writer.finish();
    return groups.map(({ group, key, writer }) => ({ group, key, token: writer.token }));
  }

  /**
   * Merges the windows of a partition of one hash and distributes its records under the merged ones: what comes out
   * is grouped by window and key. The partition is empty and closed then.
   */
  async merge(partition: RecordPartition): Promise<RecordPartitioner> {
    const { mergeWindows } = this.#init;
    const keys = await this.#collectWindows(partition);
    for (const key of keys) await key.windows.merge(mergeWindows);
    const target = new RecordPartitioner({ ...this.#init.partitioner, level: 0 });
    return this.#fill(target, partition, ({ bytes, words }, { at, windowStart, keyStart, valueStart, end }) => {
      const { windows } = present(findKey(keys, bytes, keyStart, valueStart), "the record's key");
      const merged = windows.mergedOf(bytes, windowStart, keyStart);
      target.add(
        recordHash(merged, 0, merged.length, bytes, keyStart, valueStart),
        merged,
        0,
        merged.length,
        bytes,
        keyStart,
        valueStart,
        end,
        words[at + TIMESTAMP_HIGH] as number,
        words[at + TIMESTAMP_LOW] as number,
      );
    });
  }

  async #collectWindows(partition: RecordPartition): Promise<KeyWindows[]> {
    const keys: KeyWindows[] = [];
    const isSession = this.#init.mergeWindows === undefined;
    for await (const block of partition.scan()) {
      const { bytes } = block;
      this.#eachRecord(block, ({ windowStart, keyStart, valueStart }) => {
        let found = findKey(keys, bytes, keyStart, valueStart);
        if (found === undefined) {
          const key = Buffer.from(bytes.subarray(keyStart, valueStart));
          found = { key, windows: isSession ? new SessionWindows() : new CustomWindows() };
          keys.push(found);
        }
        found.windows.add(bytes, windowStart, keyStart);
      });
    }
    return keys;
  }
}

interface GroupName {
  readonly window: Buffer;
  readonly key: Buffer;
}

/** A loop: for a few bytes a call of `compare` costs more. */
function isSame(
  { window, key }: GroupName,
  bytes: Buffer,
  windowStart: number,
  keyStart: number,
  end: number,
): boolean {
  if (window.length !== keyStart - windowStart || key.length !== end - keyStart) return false;
  for (let at = windowStart, index = 0; at < keyStart; at++, index++) if (bytes[at] !== window[index]) return false;
  for (let at = keyStart, index = 0; at < end; at++, index++) if (bytes[at] !== key[index]) return false;
  return true;
}

interface KeyWindows {
  readonly key: Buffer;
  readonly windows: SessionWindows | CustomWindows;
}

function findKey(keys: readonly KeyWindows[], bytes: Buffer, start: number, end: number): KeyWindows | undefined {
  return keys.find(({ key }) => bytes.compare(key, 0, key.length, start, end) === 0);
}

function emptyGroup(window: Buffer): Group {
  return {
    windows: window,
    windowStart: 0,
    windowEnd: window.length,
    first: -1,
    count: 0,
    valueBytes: 0,
    timestampHigh: 0,
    timestampLow: 0,
  };
}

/** Sessions of one key: only merged intervals are held. Exact, since speed matters less here. */
class SessionWindows {
  #intervals: Interval<bigint>[] = [];
  #encoded: Uint8Array[] = [];

  add(bytes: Buffer, start: number, _end: number): void {
    this.#intervals.push(decodeExactIntervalWindow(bytes, start));
    if (this.#intervals.length % MERGE_EVERY === 0) this.#compact();
  }

  #compact(): void {
    const { merged } = mergeIntervals(
      this.#intervals.map(({ start }) => start),
      this.#intervals.map(({ end }) => end),
    );
    this.#intervals = [...merged];
  }

  merge(_mergeWindows: MergeWindows | undefined): Promise<void> {
    this.#compact();
    this.#encoded = this.#intervals.map(encodeIntervalWindow);
    return Promise.resolve();
  }

  /** The last merged interval that does not begin after the window. */
  mergedOf(bytes: Buffer, windowStart: number, _windowEnd: number): Uint8Array {
    const { start } = decodeExactIntervalWindow(bytes, windowStart);
    let low = 0;
    let high = this.#intervals.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#intervals[middle] as Interval<bigint>).start <= start) low = middle;
      else high = middle - 1;
    }
    return present(this.#encoded[low], "the merged session");
  }
}

/** Windows of a custom WindowFn of one key. */
class CustomWindows {
  readonly #distinct = new DistinctWindows();
  #merged: readonly Uint8Array[] = [];
  #targets: ArrayLike<number> = [];

  add(bytes: Buffer, start: number, end: number): void {
    this.#distinct.add(bytes, start, end);
  }

  async merge(mergeWindows: MergeWindows | undefined): Promise<void> {
    const { merged, targets } = await mergeDistinct(this.#distinct, present(mergeWindows, "what merges windows"));
    this.#merged = merged;
    this.#targets = targets;
  }

  mergedOf(bytes: Buffer, start: number, end: number): Uint8Array {
    const index = this.#distinct.add(bytes, start, end);
    return present(this.#merged[this.#targets[index] ?? -1], "the merged window");
  }
}
