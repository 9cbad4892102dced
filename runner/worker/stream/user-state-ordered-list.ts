/**
 * An ordered list: entries sorted by a 64-bit sort key, equal ones in the order in which they came. Blocks of sorted
 * entries, and a directory of them in the head row.
 *
 * An entry is KV<varint, length_prefix>, as it is on the wire. Rows: head HEAD_ORDERED_LIST, next block number (4),
 * then for each block in order its least sort key (8, sign bit flipped) and its number (4); block n at cell + "b" + n.
 *
 * Invariants: blocks are not empty; a block's greatest key is not greater than the next one's least key.
 * Source: OrderedListUserState and StateAppendRequest of beam_fn_api.proto.
 */
import { malformed, readVarint, varintEnd } from "../../coders/byte-reader.ts";
import type { StateTable } from "../../state/state-rows.ts";
import { readExactMs, readUint32, writeExactMs } from "../../time/timestamp.ts";
import {
  bytesOf,
  concatenated,
  EMPTY_PAGE,
  foreignToken,
  HEAD_ORDERED_LIST,
  NO_BYTES,
  type StatePage,
  uint32Text,
  unexpectedRow,
} from "./user-state-cell.ts";

/** [start, end) of sort keys. */
export interface SortRange {
  readonly start: bigint;
  readonly end: bigint;
}

interface Entry {
  readonly key: bigint;
  readonly source: Uint8Array;
  readonly start: number;
  readonly end: number;
}

interface Block {
  readonly least: bigint;
  readonly number: number;
}

interface Directory {
  nextNumber: number;
  blocks: Block[];
}

const HEADER_BYTES = 5;
const BLOCK_BYTES = 12;
const TOKEN_BYTES = 12;
const WHAT = "ordered list entry (kv of varint and length_prefix)";

/**
 * @param range all entries where it is undefined
 * @param token of the page before, or empty: the sort key to go on with (8) and how many of its entries are done (4)
 */
export function readList(
  table: StateTable,
  cell: string,
  range: SortRange | undefined,
  token: Uint8Array,
  pageBytes: number,
): StatePage {
  if (token.length !== 0 && token.length !== TOKEN_BYTES) throw foreignToken();
  const { blocks } = readDirectory(table, cell);
  const from = token.length === 0 ? range?.start : readExactMs(token, 0);
  let toSkip = token.length === 0 ? 0 : readUint32(token, 8);
  const parts: Uint8Array[] = [];
  let byteLength = 0;
  let lastKey: bigint | undefined;
  let sameKeyCount = 0;
  for (let index = from === undefined ? 0 : firstBlock(blocks, from); index < blocks.length; index++) {
    const block = blocks[index] as Block;
    if (range !== undefined && block.least >= range.end) break;
    for (const entry of readEntries(blockRow(table, cell, block.number))) {
      if (from !== undefined && entry.key < from) continue;
      if (range !== undefined && entry.key >= range.end) break;
      sameKeyCount = entry.key === lastKey ? sameKeyCount + 1 : 0;
      lastKey = entry.key;
      if (entry.key === from && toSkip > 0) {
        toSkip--;
        continue;
      }
      const entryBytes = entry.end - entry.start;
      if (parts.length > 0 && byteLength + entryBytes > pageBytes)
        return { data: concatenated(parts, byteLength), continuationToken: tokenOf(entry.key, sameKeyCount) };
      parts.push(entry.source.subarray(entry.start, entry.end));
      byteLength += entryBytes;
    }
  }
  return byteLength === 0 ? EMPTY_PAGE : { data: concatenated(parts, byteLength), continuationToken: NO_BYTES };
}

/** @param data entries in any order; not kept. */
export function appendToList(table: StateTable, cell: string, data: Uint8Array, blockBytes: number): void {
  const added = readEntries(data);
  if (added.length === 0) return;
  added.sort(byKey);
  const directory = readDirectory(table, cell);
  const before = directory.blocks;
  if (before.length === 0) {
    directory.blocks = writeBlocks(table, cell, directory, undefined, added, blockBytes);
  } else {
    directory.blocks = [];
    let taken = 0;
    before.forEach((block, index) => {
      // Behind those of the same key: an entry goes into the last block that begins at or before its key.
      const next = before[index + 1];
      let end = taken;
      while (end < added.length && (next === undefined || (added[end] as Entry).key < next.least)) end++;
      if (end === taken) directory.blocks.push(block);
      else {
        const merged = [...readEntries(blockRow(table, cell, block.number)), ...added.slice(taken, end)].sort(byKey);
        directory.blocks.push(...writeBlocks(table, cell, directory, block.number, merged, blockBytes));
        taken = end;
      }
    });
  }
  writeDirectory(table, cell, directory);
}

/** Removes the entries of a range, or all. */
export function clearList(table: StateTable, cell: string, range: SortRange | undefined): void {
  const directory = readDirectory(table, cell);
  const before = directory.blocks;
  if (before.length === 0) return;
  if (range === undefined) {
    for (const block of before) table.delete(blockKey(cell, block.number));
    table.delete(cell);
    return;
  }
  if (range.start >= range.end) return;
  directory.blocks = [];
  before.forEach((block, index) => {
    const next = before[index + 1];
    if (block.least >= range.end || (next !== undefined && next.least < range.start)) {
      directory.blocks.push(block);
      return;
    }
    const whole = block.least >= range.start && next !== undefined && next.least < range.end;
    const entries = whole ? [] : readEntries(blockRow(table, cell, block.number));
    const kept = entries.filter(({ key }) => key < range.start || key >= range.end);
    if (kept.length === 0) table.delete(blockKey(cell, block.number));
    else if (kept.length === entries.length) directory.blocks.push(block);
    else directory.blocks.push(...writeBlocks(table, cell, directory, block.number, kept, Number.POSITIVE_INFINITY));
  });
  if (directory.blocks.length === 0) table.delete(cell);
  else writeDirectory(table, cell, directory);
}

/** Sorted entries as blocks of at most `blockBytes` where they can be; the first one under `number`, if given. */
function writeBlocks(
  table: StateTable,
  cell: string,
  directory: Directory,
  number: number | undefined,
  entries: readonly Entry[],
  blockBytes: number,
): Block[] {
  const blocks: Block[] = [];
  let parts: Uint8Array[] = [];
  let byteLength = 0;
  let least = 0n;
  const flush = (): void => {
    const block = { least, number: (blocks.length === 0 ? number : undefined) ?? directory.nextNumber++ };
    // A copy in any case: rows never keep a request's buffer.
    const bytes = concatenated(parts, byteLength);
    table.put(blockKey(cell, block.number), parts.length === 1 ? bytes.slice() : bytes);
    blocks.push(block);
    parts = [];
    byteLength = 0;
  };
  for (const { key, source, start, end } of entries) {
    if (parts.length > 0 && byteLength + end - start > blockBytes) flush();
    if (parts.length === 0) least = key;
    parts.push(source.subarray(start, end));
    byteLength += end - start;
  }
  flush();
  return blocks;
}

/** The first block that may hold the key: equal keys may lie in several. */
function firstBlock(blocks: readonly Block[], key: bigint): number {
  let low = 0;
  let high = blocks.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((blocks[middle] as Block).least < key) low = middle + 1;
    else high = middle;
  }
  return Math.max(0, low - 1);
}

/** @throws WeirError DATA_LOSS for bytes that are no entries. */
function readEntries(source: Uint8Array): Entry[] {
  const entries: Entry[] = [];
  for (let start = 0; start < source.length;) {
    const valueAt = varintEnd(source, start, WHAT);
    const end = varintEnd(source, valueAt, WHAT) + readVarint(source, valueAt, WHAT);
    if (end > source.length) throw malformed(WHAT, source, valueAt);
    entries.push({ key: readInt64(source, start, valueAt), source, start, end });
    start = end;
  }
  return entries;
}

/** A varint as a signed 64-bit number. */
function readInt64(bytes: Uint8Array, start: number, end: number): bigint {
  // Seven groups fit into a number, which is much faster.
  if (end - start <= 7) return BigInt(readVarint(bytes, start, WHAT));
  let value = 0n;
  for (let at = end - 1; at >= start; at--) value = (value << 7n) | BigInt((bytes[at] as number) & 0x7f);
  return BigInt.asIntN(64, value);
}

function byKey(left: Entry, right: Entry): number {
  return left.key < right.key ? -1 : left.key > right.key ? 1 : 0;
}

function readDirectory(table: StateTable, cell: string): Directory {
  const row = table.get(cell);
  if (row === undefined) return { nextNumber: 0, blocks: [] };
  if (row[0] !== HEAD_ORDERED_LIST) throw unexpectedRow("an ordered list");
  const blocks: Block[] = [];
  for (let at = HEADER_BYTES; at < row.length; at += BLOCK_BYTES)
    blocks.push({ least: readExactMs(row, at), number: readUint32(row, at + 8) });
  return { nextNumber: readUint32(row, 1), blocks };
}

function writeDirectory(table: StateTable, cell: string, { nextNumber, blocks }: Directory): void {
  const row = new Uint8Array(HEADER_BYTES + blocks.length * BLOCK_BYTES);
  row[0] = HEAD_ORDERED_LIST;
  row.set(bytesOf(uint32Text(nextNumber)), 1);
  blocks.forEach(({ least, number }, index) => row.set(tokenOf(least, number), HEADER_BYTES + index * BLOCK_BYTES));
  table.put(cell, row);
}

/** A sort key and a number of four bytes. */
function tokenOf(key: bigint, number: number): Uint8Array {
  const bytes = new Uint8Array(TOKEN_BYTES);
  writeExactMs(bytes, 0, key);
  bytes.set(bytesOf(uint32Text(number)), 8);
  return bytes;
}

function blockKey(cell: string, number: number): string {
  return `${cell}b${uint32Text(number)}`;
}

function blockRow(table: StateTable, cell: string, number: number): Uint8Array {
  const row = table.get(blockKey(cell, number));
  if (row === undefined) throw unexpectedRow("complete: a block of an ordered list is missing");
  return row;
}
