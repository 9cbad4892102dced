/** Rows as the records of a snapshot file's blocks, and back. The format is described in snapshot-file.ts. */
import { readVarint, varintEnd, varintLength, writeVarint } from "../../coders/byte-reader.ts";
import { WeirError } from "../../base/errors.ts";
import type { ChangedRow } from "./state-delta.ts";

const TABLE = 0;
const PUT = 1;
const GONE = 2;
const WHAT = "snapshot record";

/** Collects records until there are enough for a block. */
export class RecordWriter {
  readonly #tables = new Map<string, number>();
  #bytes: Buffer;
  #length = 0;

  constructor(expectedBytes: number) {
    this.#bytes = Buffer.allocUnsafeSlow(expectedBytes);
  }

  get byteLength(): number {
    return this.#length;
  }

  add({ table, key, value }: ChangedRow): void {
    let number = this.#tables.get(table);
    if (number === undefined) {
      this.#tables.set(table, (number = this.#tables.size));
      const name = Buffer.from(table);
      this.#reserve(1 + varintLength(name.length) + name.length);
      this.#bytes[this.#length++] = TABLE;
      this.#varint(name.length);
      this.#length += name.copy(this.#bytes, this.#length);
    }
    const valueBytes = value === undefined ? 0 : varintLength(value.length) + value.length;
    this.#reserve(1 + varintLength(number) + varintLength(key.length) + key.length + valueBytes);
    this.#bytes[this.#length++] = value === undefined ? GONE : PUT;
    this.#varint(number);
    this.#varint(key.length);
    this.#length += this.#bytes.write(key, this.#length, "latin1");
    if (value === undefined) return;
    this.#varint(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
  }

  /** What was added since the last call. The caller owns it. */
  take(): Buffer {
    const bytes = Buffer.from(this.#bytes.subarray(0, this.#length));
    this.#length = 0;
    return bytes;
  }

  #varint(value: number): void {
    this.#length = writeVarint(this.#bytes, this.#length, value);
  }

  #reserve(byteLength: number): void {
    if (this.#length + byteLength <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#length + byteLength));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

/**
 * The rows of a block. Values are copies.
 * @param tables of the file so far; new ones are added. @throws WeirError DATA_LOSS or RangeError for malformed records.
 */
export function* readRecords(content: Buffer, tables: string[], path: string): Iterable<ChangedRow> {
  let at = 0;
  const varint = (): number => {
    const value = readVarint(content, at, WHAT);
    at = varintEnd(content, at, WHAT);
    return value;
  };
  const slice = (): Buffer => {
    const length = varint();
    if (at + length > content.length) throw damagedSnapshot(path, "a record ends after its block");
    return content.subarray(at, (at += length));
  };
  while (at < content.length) {
    const kind = content[at++];
    if (kind === TABLE) {
      tables.push(slice().toString());
      continue;
    }
    if (kind !== PUT && kind !== GONE) throw damagedSnapshot(path, `it has a record of unknown kind ${kind}`);
    const table = tables[varint()];
    if (table === undefined) throw damagedSnapshot(path, "a row's table is not defined before it");
    const key = slice().toString("latin1");
    yield { table, key, value: kind === PUT ? new Uint8Array(slice()) : undefined };
  }
}

/** @param problem completes "The snapshot file … is damaged: ". */
export function damagedSnapshot(path: string, problem: string, cause?: unknown): WeirError {
  return new WeirError({
    code: "DATA_LOSS",
    domain: "external",
    message: `The snapshot file ${path} is damaged: ${problem}.`,
    hint: "Restore from an older checkpoint or from a savepoint, or get the file back from a copy.",
    cause,
  });
}
