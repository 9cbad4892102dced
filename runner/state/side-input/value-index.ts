/**
 * Which values of a side input belong to a window and a key: an entry for each (window, key), its values as a chain of
 * runs in the value log, and the entries of a window as a chain, in the order in which they came.
 *
 * Invariants: keys and windows are compared as encoded bytes; a run is whole values that follow each other in the log.
 * All of it is columns of numbers and one array of key bytes, so that millions of keys fit.
 */
import { IntColumn, NumberColumn } from "./growing-column.ts";

/** No entry, or no run. */
export const NONE = -1;

/** Runs are joined up to this size: a page is cut between runs. */
const RUN_BYTES = 16 * 1024;

export class ValueIndex {
  readonly #windows = new Map<string, number>();
  readonly #windowHead = new IntColumn();
  readonly #windowTail = new IntColumn();

  readonly #entryWindow = new IntColumn();
  readonly #entryHash = new IntColumn();
  readonly #entryNext = new IntColumn();
  readonly #entryHead = new IntColumn();
  readonly #entryTail = new IntColumn();
  readonly #entryCount = new IntColumn();
  readonly #entryBytes = new NumberColumn();
  readonly #keyStart = new NumberColumn();
  readonly #keyLength = new IntColumn();
  #keys = new Uint8Array(1024);
  #keysLength = 0;
  /** Open addressing over entries. */
  #slots = new Int32Array(128).fill(NONE);

  readonly #runOffset = new NumberColumn();
  readonly #runBytes = new IntColumn();
  readonly #runNext = new IntColumn();

  /** What it holds in memory. */
  get byteLength(): number {
    let bytes = this.#keys.byteLength + this.#slots.byteLength + this.#windows.size * 100;
    for (const column of [
      this.#windowHead,
      this.#windowTail,
      this.#entryWindow,
      this.#entryHash,
      this.#entryNext,
      this.#entryHead,
      this.#entryTail,
      this.#entryCount,
      this.#entryBytes,
      this.#keyStart,
      this.#keyLength,
      this.#runOffset,
      this.#runBytes,
      this.#runNext,
    ])
      bytes += column.byteLength;
    return bytes;
  }

  /** The number of a window, by its encoding; a new one when it has none. */
  internWindow(bytes: Uint8Array, start: number, end: number): number {
    const name = latin1(bytes, start, end);
    let window = this.#windows.get(name);
    if (window === undefined) {
      window = this.#windows.size;
      this.#windows.set(name, window);
      this.#windowHead.push(NONE);
      this.#windowTail.push(NONE);
    }
    return window;
  }

  /** The window's number, or NONE. */
  window(encoded: Uint8Array): number {
    return this.#windows.get(latin1(encoded, 0, encoded.byteLength)) ?? NONE;
  }

  /** Adds a value that lies in the log to (window, key). */
  add(window: number, bytes: Uint8Array, keyStart: number, keyEnd: number, offset: number, byteLength: number): void {
    const hash = hashOf(bytes, keyStart, keyEnd, window);
    let entry = this.#find(hash, window, bytes, keyStart, keyEnd);
    if (entry === NONE) entry = this.#addEntry(hash, window, bytes, keyStart, keyEnd);
    this.#entryCount.values[entry] = (this.#entryCount.values[entry] as number) + 1;
    this.#entryBytes.values[entry] = (this.#entryBytes.values[entry] as number) + byteLength;
    const tail = this.#entryTail.values[entry] as number;
    if (tail !== NONE) {
      const tailBytes = this.#runBytes.values[tail] as number;
      if ((this.#runOffset.values[tail] as number) + tailBytes === offset && tailBytes + byteLength <= RUN_BYTES) {
        this.#runBytes.values[tail] = tailBytes + byteLength;
        return;
      }
    }
    const run = this.#runOffset.length;
    this.#runOffset.push(offset);
    this.#runBytes.push(byteLength);
    this.#runNext.push(NONE);
    if (tail === NONE) this.#entryHead.values[entry] = run;
    else this.#runNext.values[tail] = run;
    this.#entryTail.values[entry] = run;
  }

  /** The entry of (window, key), or NONE. */
  entry(window: number, key: Uint8Array): number {
    return this.#find(hashOf(key, 0, key.byteLength, window), window, key, 0, key.byteLength);
  }

  #find(hash: number, window: number, bytes: Uint8Array, start: number, end: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = this.#slots[slot] as number;
      if (entry === NONE) return NONE;
      if (
        this.#entryHash.values[entry] === hash &&
        this.#entryWindow.values[entry] === window &&
        this.#hasKey(entry, bytes, start, end)
      )
        return entry;
    }
  }

  #hasKey(entry: number, bytes: Uint8Array, start: number, end: number): boolean {
    if (this.#keyLength.values[entry] !== end - start) return false;
    const keyStart = this.#keyStart.values[entry] as number;
    for (let at = start; at < end; at++) if (this.#keys[keyStart + at - start] !== bytes[at]) return false;
    return true;
  }

  #addEntry(hash: number, window: number, bytes: Uint8Array, start: number, end: number): number {
    const entry = this.#entryHash.length;
    this.#entryHash.push(hash);
    this.#entryWindow.push(window);
    this.#entryNext.push(NONE);
    this.#entryHead.push(NONE);
    this.#entryTail.push(NONE);
    this.#entryCount.push(0);
    this.#entryBytes.push(0);
    this.#keyStart.push(this.#keysLength);
    this.#keyLength.push(end - start);
    this.#addKey(bytes, start, end);
    const last = this.#windowTail.values[window] as number;
    if (last === NONE) this.#windowHead.values[window] = entry;
    else this.#entryNext.values[last] = entry;
    this.#windowTail.values[window] = entry;
    if (2 * this.#entryHash.length > this.#slots.length) this.#rehash();
    else this.#putSlot(hash, entry);
    return entry;
  }

  #addKey(bytes: Uint8Array, start: number, end: number): void {
    const neededBytes = this.#keysLength + end - start;
    if (neededBytes > this.#keys.byteLength) {
      const larger = new Uint8Array(Math.max(neededBytes, 2 * this.#keys.byteLength));
      larger.set(this.#keys.subarray(0, this.#keysLength));
      this.#keys = larger;
    }
    this.#keys.set(bytes.subarray(start, end), this.#keysLength);
    this.#keysLength = neededBytes;
  }

  #putSlot(hash: number, entry: number): void {
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    while (this.#slots[slot] !== NONE) slot = (slot + 1) & mask;
    this.#slots[slot] = entry;
  }

  #rehash(): void {
    this.#slots = new Int32Array(2 * this.#slots.length).fill(NONE);
    for (let entry = 0; entry < this.#entryHash.length; entry++)
      this.#putSlot(this.#entryHash.values[entry] as number, entry);
  }

  get entryCount(): number {
    return this.#entryHash.length;
  }

  get runCount(): number {
    return this.#runOffset.length;
  }

  firstEntry(window: number): number {
    return this.#windowHead.values[window] as number;
  }

  nextEntry(entry: number): number {
    return this.#entryNext.values[entry] as number;
  }

  windowOf(entry: number): number {
    return this.#entryWindow.values[entry] as number;
  }

  /** The entry's key, as it was encoded. Not to be changed. */
  keyOf(entry: number): Uint8Array {
    const start = this.#keyStart.values[entry] as number;
    return this.#keys.subarray(start, start + (this.#keyLength.values[entry] as number));
  }

  valueCount(entry: number): number {
    return this.#entryCount.values[entry] as number;
  }

  /** Bytes of all values of the entry. */
  valueBytes(entry: number): number {
    return this.#entryBytes.values[entry] as number;
  }

  firstRun(entry: number): number {
    return this.#entryHead.values[entry] as number;
  }

  nextRun(run: number): number {
    return this.#runNext.values[run] as number;
  }

  runOffset(run: number): number {
    return this.#runOffset.values[run] as number;
  }

  runBytes(run: number): number {
    return this.#runBytes.values[run] as number;
  }
}

function latin1(bytes: Uint8Array, start: number, end: number): string {
  if (start === end) return "";
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("latin1");
}

/** FNV-1a with a final mix, seeded by the window. */
function hashOf(bytes: Uint8Array, start: number, end: number, seed: number): number {
  let hash = Math.imul(0x811c9dc5 ^ seed, 0x01000193);
  for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return hash ^ (hash >>> 13);
}
