/**
 * Finds the groups of one loaded partition: an open-addressing table over the bytes of the records' group key, in
 * typed arrays, and per group a chain of its records in the order in which they came. The group key is the window and
 * the key, or, where windows still have to be merged, the key alone.
 *
 * Invariant: a record's hash word becomes the word index of the next record of its group, or -1: no memory per record.
 */
import type { Group } from "./group-encoder.ts";
import {
  type Block,
  contentBytesOf,
  HASH,
  headerBytesOf,
  KEY_LENGTH,
  NO_RECORD,
  recordBytesOf,
  TIMESTAMP_HIGH,
  TIMESTAMP_LOW,
  VALUE_LENGTH,
  WINDOW_LENGTH,
} from "./record-partition.ts";

const GOLDEN_RATIO = 0x9e3779b1;

export interface GroupIndexInit {
  readonly keepTimestamps: boolean;
  /** Whether a group's timestamp is the latest of its records', else the earliest. */
  readonly latest: boolean;
}

export class GroupIndex {
  readonly #init: GroupIndexInit;
  readonly #headerBytes: number;
  /** Group number + 1; 0 is free. */
  #slots = new Int32Array(64);
  #shift = 26;
  #hashes = new Int32Array(32);
  #groupCount = 0;
  /** Word index of the group's first and last record. */
  #first = new Int32Array(32);
  #last = new Int32Array(32);
  #counts = new Int32Array(32);
  #valueBytes = new Int32Array(32);
  #timestampHigh = new Uint32Array(32);
  #timestampLow = new Uint32Array(32);

  constructor(init: GroupIndexInit) {
    this.#init = init;
    this.#headerBytes = headerBytesOf(init.keepTimestamps);
  }

  get groupCount(): number {
    return this.#groupCount;
  }

  /** Forgets what it had and finds the groups of `block`, whose hash words it overwrites. */
  build(block: Block, byKeyAlone: boolean): void {
    this.#groupCount = 0;
    this.#slots.fill(0);
    const { bytes, words, used } = block;
    const headerBytes = this.#headerBytes;
    const { keepTimestamps } = this.#init;
    for (let start = 0; start < used;) {
      const at = start >> 2;
      const hash = words[at + HASH] as number;
      const group = this.#find(hash, bytes, words, at, byKeyAlone);
      words[at + HASH] = NO_RECORD;
      if (group === this.#groupCount) this.#open(group, hash, at);
      else {
        words[(this.#last[group] as number) + HASH] = at;
        this.#last[group] = at;
        if (keepTimestamps) this.#combineTimestamp(group, words, at);
      }
      (this.#counts[group] as number)++;
      this.#valueBytes[group] = (this.#valueBytes[group] as number) + (words[at + VALUE_LENGTH] as number);
      if (group === this.#groupCount) {
        if (keepTimestamps) this.#setTimestamp(group, words, at);
        this.#groupCount++;
        if (this.#groupCount * 2 > this.#slots.length) this.#grow();
      }
      start += recordBytesOf(headerBytes, contentBytesOf(words, at));
    }
  }

  /** Fills `into` with group `number` of the block that was indexed last. */
  read(number: number, block: Block, into: Group): void {
    const first = this.#first[number] as number;
    into.windows = block.bytes;
    into.windowStart = (first << 2) + this.#headerBytes;
    into.windowEnd = into.windowStart + (block.words[first + WINDOW_LENGTH] as number);
    into.first = first;
    into.count = this.#counts[number] as number;
    into.valueBytes = this.#valueBytes[number] as number;
    into.timestampHigh = this.#timestampHigh[number] as number;
    into.timestampLow = this.#timestampLow[number] as number;
  }

  /** The record's group, or the number of a new one, whose slot is taken then. */
  #find(hash: number, bytes: Buffer, words: Int32Array, at: number, byKeyAlone: boolean): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = Math.imul(hash, GOLDEN_RATIO) >>> this.#shift; ; slot = (slot + 1) & mask) {
      const group = (slots[slot] as number) - 1;
      if (group < 0) {
        slots[slot] = this.#groupCount + 1;
        return this.#groupCount;
      }
      if (this.#hashes[group] === hash && this.#isSame(bytes, words, this.#first[group] as number, at, byKeyAlone))
        return group;
    }
  }

  #isSame(bytes: Buffer, words: Int32Array, left: number, right: number, byKeyAlone: boolean): boolean {
    const keyLength = words[left + KEY_LENGTH] as number;
    if (words[right + KEY_LENGTH] !== keyLength) return false;
    const leftWindow = words[left + WINDOW_LENGTH] as number;
    const rightWindow = words[right + WINDOW_LENGTH] as number;
    if (!byKeyAlone && leftWindow !== rightWindow) return false;
    let leftAt = (left << 2) + this.#headerBytes + (byKeyAlone ? leftWindow : 0);
    let rightAt = (right << 2) + this.#headerBytes + (byKeyAlone ? rightWindow : 0);
    const end = leftAt + keyLength + (byKeyAlone ? 0 : leftWindow);
    while (leftAt < end) if (bytes[leftAt++] !== bytes[rightAt++]) return false;
    return true;
  }

  #open(group: number, hash: number, at: number): void {
    if (group === this.#first.length) this.#growGroups();
    this.#hashes[group] = hash;
    this.#first[group] = at;
    this.#last[group] = at;
    this.#counts[group] = 0;
    this.#valueBytes[group] = 0;
  }

  #setTimestamp(group: number, words: Int32Array, at: number): void {
    this.#timestampHigh[group] = words[at + TIMESTAMP_HIGH] as number;
    this.#timestampLow[group] = words[at + TIMESTAMP_LOW] as number;
  }

  #combineTimestamp(group: number, words: Int32Array, at: number): void {
    const high = (words[at + TIMESTAMP_HIGH] as number) >>> 0;
    const low = (words[at + TIMESTAMP_LOW] as number) >>> 0;
    const heldHigh = this.#timestampHigh[group] as number;
    const isLater = high === heldHigh ? low > (this.#timestampLow[group] as number) : high > heldHigh;
    if (isLater === this.#init.latest) this.#setTimestamp(group, words, at);
  }

  #grow(): void {
    const slots = new Int32Array(this.#slots.length * 2);
    const mask = slots.length - 1;
    this.#shift--;
    for (let group = 0; group < this.#groupCount; group++) {
      let slot = Math.imul(this.#hashes[group] as number, GOLDEN_RATIO) >>> this.#shift;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = group + 1;
    }
    this.#slots = slots;
  }

  #growGroups(): void {
    const grow = <Numbers extends Int32Array | Uint32Array>(held: Numbers, grown: Numbers): Numbers => {
      grown.set(held);
      return grown;
    };
    const length = this.#first.length * 2;
    this.#hashes = grow(this.#hashes, new Int32Array(length));
    this.#first = grow(this.#first, new Int32Array(length));
    this.#last = grow(this.#last, new Int32Array(length));
    this.#counts = grow(this.#counts, new Int32Array(length));
    this.#valueBytes = grow(this.#valueBytes, new Int32Array(length));
    this.#timestampHigh = grow(this.#timestampHigh, new Uint32Array(length));
    this.#timestampLow = grow(this.#timestampLow, new Uint32Array(length));
  }
}
