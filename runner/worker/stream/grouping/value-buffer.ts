/**
 * The encoded values of one key and window, appended as they come: a tail in memory, and before it rows that are full
 * and never change again. So adding a value costs the copy of its bytes, and a snapshot what came since the last one.
 *
 * Invariant: rows 0 to `rowCount` - 1 are in the table; where the tail has been flushed, it is the row after them.
 */
import type { StateTable } from "../../../state/state-rows.ts";

/** The most that V8 keeps on its own heap: making one costs little. */
const FIRST_TAIL_BYTES = 64;
/** A full row. Larger ones would keep much memory in tails, smaller ones make many rows. */
const ROW_BYTES = 1024;
const NOTHING = new Uint8Array();

export class ValueBuffer {
  /** Of the rows' keys; four bytes with the row's number follow. */
  readonly rowPrefix: string;
  readonly #table: StateTable;
  #rowCount = 0;
  #tail: Uint8Array = NOTHING;
  #tailUsed = 0;
  /** Of the tail: bytes that are in its row. */
  #tailFlushed = 0;
  #valueCount = 0;
  #byteLength = 0;

  constructor(table: StateTable, rowPrefix: string) {
    this.#table = table;
    this.rowPrefix = rowPrefix;
  }

  /** As it was when it was flushed. */
  static restore(
    table: StateTable,
    rowPrefix: string,
    rowCount: number,
    valueCount: number,
    byteLength: number,
  ): ValueBuffer {
    const buffer = new ValueBuffer(table, rowPrefix);
    buffer.#rowCount = rowCount;
    buffer.#valueCount = valueCount;
    buffer.#byteLength = byteLength;
    return buffer;
  }

  get valueCount(): number {
    return this.#valueCount;
  }

  get byteLength(): number {
    return this.#byteLength;
  }

  /** The rows that a restored buffer has, when it is restored from what is in the table now. */
  get storedRowCount(): number {
    return this.#rowCount + (this.#tailFlushed > 0 ? 1 : 0);
  }

  /** Appends one value, bytes[start, end). */
  add(bytes: Uint8Array, start: number, end: number): void {
    const length = end - start;
    let at = this.#tailUsed;
    if (at + length > this.#tail.length) at = this.#makeRoom(length);
    const tail = this.#tail;
    // Most values are short: a loop beats a call.
    if (length <= 32) for (let index = 0; index < length; index++) tail[at + index] = bytes[start + index] as number;
    else tail.set(bytes.subarray(start, end), at);
    this.#tailUsed = at + length;
    this.#valueCount++;
    this.#byteLength += length;
  }

  /** Appends all of another's values, which is empty then. */
  take(other: ValueBuffer): void {
    const bytes = Buffer.allocUnsafe(other.#byteLength);
    other.copyTo(bytes, 0);
    const valueCount = this.#valueCount + other.#valueCount;
    if (bytes.length > 0) this.add(bytes, 0, bytes.length);
    this.#valueCount = valueCount;
    other.clear();
  }

  /** Writes all values, in order. @returns the position after them. */
  copyTo(target: Buffer, position: number): number {
    let at = position;
    for (let row = 0; row < this.#rowCount; row++) {
      const bytes = this.#table.get(this.#rowKey(row));
      if (bytes === undefined) throw new Error(`assertion failed: row ${row} of a window's values is missing`);
      target.set(bytes, at);
      at += bytes.length;
    }
    return this.#copyTail(target, at);
  }

  /** Puts what is only in memory into the table. */
  flush(): void {
    if (this.#tailFlushed === this.#tailUsed) return;
    this.#table.put(this.#rowKey(this.#rowCount), this.#copyOfTail());
    this.#tailFlushed = this.#tailUsed;
  }

  /** Drops all values, and their rows. */
  clear(): void {
    for (let row = this.storedRowCount - 1; row >= 0; row--) this.#table.delete(this.#rowKey(row));
    this.#rowCount = 0;
    if (this.#tail.length > ROW_BYTES) this.#tail = NOTHING;
    this.#tailUsed = 0;
    this.#tailFlushed = 0;
    this.#valueCount = 0;
    this.#byteLength = 0;
  }

  #makeRoom(length: number): number {
    const used = this.#tailUsed;
    if (used + length <= ROW_BYTES || used === 0) {
      const wanted = Math.max(length, Math.min(ROW_BYTES, (used + length) * 2));
      const grown = wanted <= FIRST_TAIL_BYTES ? new Uint8Array(FIRST_TAIL_BYTES) : Buffer.allocUnsafeSlow(wanted);
      this.#copyTail(grown, 0);
      this.#tail = grown;
      return used;
    }
    const isFull = used * 2 > this.#tail.length;
    this.#table.put(this.#rowKey(this.#rowCount), isFull ? this.#tail.subarray(0, used) : this.#copyOfTail());
    this.#rowCount++;
    this.#tailFlushed = 0;
    this.#tail = Buffer.allocUnsafeSlow(Math.max(length, ROW_BYTES));
    return 0;
  }

  #copyOfTail(): Uint8Array {
    const copy = new Uint8Array(this.#tailUsed);
    this.#copyTail(copy, 0);
    return copy;
  }

  #copyTail(target: Uint8Array, position: number): number {
    const used = this.#tailUsed;
    const tail = this.#tail;
    // A view of bytes on V8's heap would move them away from there.
    if (used <= FIRST_TAIL_BYTES)
      for (let index = 0; index < used; index++) target[position + index] = tail[index] as number;
    else target.set(tail.subarray(0, used), position);
    return position + used;
  }

  #rowKey(row: number): string {
    return (
      this.rowPrefix + String.fromCharCode((row >>> 24) & 0xff, (row >>> 16) & 0xff, (row >>> 8) & 0xff, row & 0xff)
    );
  }
}
