/**
 * Bytes that are written and read one after another: what element coders work on. A reader takes slices without
 * copying; whoever keeps one keeps the message that it came in.
 */
import { malformed, readInt32, varintEnd } from "../runner/coders/byte-reader.ts";
import { readTimestamp, TIMESTAMP_BYTES, type Timestamp, writeTimestamp } from "../runner/time/timestamp.ts";

export class ByteWriter {
  #bytes = new Uint8Array(64);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  #reserve(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
    }
    return at;
  }

  byte(value: number): void {
    const at = this.#reserve(1);
    this.#bytes[at] = value;
  }

  raw(bytes: Uint8Array): void {
    const at = this.#reserve(bytes.length);
    this.#bytes.set(bytes, at);
  }

  int32(value: number): void {
    const at = this.#reserve(4);
    new DataView(this.#bytes.buffer).setInt32(at, value);
  }

  double(value: number): void {
    const at = this.#reserve(8);
    new DataView(this.#bytes.buffer).setFloat64(at, value);
  }

  /** A signed 64-bit number in groups of seven bits: negative ones take ten bytes. */
  varint(value: number | bigint): void {
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) {
      let rest = value;
      for (; rest >= 128; rest = Math.floor(rest / 128)) this.byte((rest % 128) | 0x80);
      this.byte(rest);
      return;
    }
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest >= 128n; rest >>= 7n) this.byte(Number(rest & 0x7fn) | 0x80);
    this.byte(Number(rest));
  }

  timestamp(value: Timestamp): void {
    const at = this.#reserve(TIMESTAMP_BYTES);
    writeTimestamp(this.#bytes, at, value);
  }

  lengthPrefixed(bytes: Uint8Array): void {
    this.varint(bytes.length);
    this.raw(bytes);
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}

export class ByteReader {
  readonly bytes: Uint8Array;
  position = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get atEnd(): boolean {
    return this.position >= this.bytes.length;
  }

  /** @param what the coder, for the error's message. @throws WeirError DATA_LOSS past the end. */
  raw(length: number, what: string): Uint8Array {
    const start = this.position;
    const end = start + length;
    if (end > this.bytes.length) throw malformed(what, this.bytes, start);
    this.position = end;
    return this.bytes.subarray(start, end);
  }

  byte(what: string): number {
    return this.raw(1, what)[0] as number;
  }

  int32(what: string): number {
    const value = readInt32(this.bytes, this.position, what);
    this.position += 4;
    return value;
  }

  double(what: string): number {
    const bytes = this.raw(8, what);
    return new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0);
  }

  /** A number where it is a safe one, else a bigint. */
  varint(what: string): number | bigint {
    const end = varintEnd(this.bytes, this.position, what);
    let value = 0n;
    for (let at = end - 1; at >= this.position; at--) value = (value << 7n) | BigInt((this.bytes[at] as number) & 0x7f);
    this.position = end;
    const signed = BigInt.asIntN(64, value);
    const number = Number(signed);
    return Number.isSafeInteger(number) ? number : signed;
  }

  length(what: string): number {
    const value = Number(this.varint(what));
    if (value < 0) throw malformed(what, this.bytes, this.position, "has a negative length");
    return value;
  }

  timestamp(what: string): Timestamp {
    const at = this.position;
    this.raw(TIMESTAMP_BYTES, what);
    return readTimestamp(this.bytes, at);
  }

  lengthPrefixed(what: string): Uint8Array {
    return this.raw(this.length(what), what);
  }
}
