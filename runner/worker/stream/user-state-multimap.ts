/**
 * A multimap: a bag for each map key, and the map keys in a doubly linked list in the order in which they came, so that
 * adding, removing and paging over keys touch a fixed number of rows.
 *
 * Rows, where M is the length-prefixed map key: head HEAD_MULTIMAP, first M, last M; link at cell + "k" + M: the
 * previous M, the next M (an empty string where there is none: a length prefix is never empty); values: the bag at
 * cell + "v" + M.
 */
import { WeirError } from "../../base/errors.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import { readVarint, varintEnd, varintLength, writeVarint } from "../../coders/byte-reader.ts";
import type { StateTable } from "../../state/state-rows.ts";
import { appendToBag, clearBag, readBag } from "./user-state-bag.ts";
import {
  binary,
  bytesOf,
  concatenated,
  EMPTY_PAGE,
  HEAD_MULTIMAP,
  NO_BYTES,
  prefixed,
  type StatePage,
  unexpectedRow,
} from "./user-state-cell.ts";

const WHAT = "length-prefixed map key";

interface Ends {
  /** Both M, as are `previous` and `next`. */
  first: string;
  last: string;
}

interface Link {
  previous: string;
  next: string;
}

export function readMapValues(
  table: StateTable,
  cell: string,
  mapKey: Uint8Array,
  token: Uint8Array,
  pageBytes: number,
): StatePage {
  return readBag(table, `${cell}v${prefixed(mapKey)}`, token, pageBytes);
}

/** Adds values to a map key, which is there from then on, even if there are none. */
export function appendMapValues(
  table: StateTable,
  cell: string,
  mapKey: Uint8Array,
  data: Uint8Array,
  chunkBytes: number,
): void {
  const key = prefixed(mapKey);
  if (table.get(`${cell}k${key}`) === undefined) addKey(table, cell, key);
  appendToBag(table, `${cell}v${key}`, data, chunkBytes);
}

export function removeMapKey(table: StateTable, cell: string, mapKey: Uint8Array): void {
  const key = prefixed(mapKey);
  const link = readLink(table, cell, key);
  if (link === undefined) return;
  clearBag(table, `${cell}v${key}`);
  table.delete(`${cell}k${key}`);
  const ends = readEnds(table, cell) as Ends;
  if (link.previous === "") ends.first = link.next;
  else {
    const previous = readLink(table, cell, link.previous) as Link;
    writeLink(table, cell, link.previous, { previous: previous.previous, next: link.next });
  }
  if (link.next === "") ends.last = link.previous;
  else {
    const next = readLink(table, cell, link.next) as Link;
    writeLink(table, cell, link.next, { previous: link.previous, next: next.next });
  }
  if (ends.first === "") table.delete(cell);
  else writeEnds(table, cell, ends);
}

export function clearMultimap(table: StateTable, cell: string): void {
  const ends = readEnds(table, cell);
  let next = "";
  for (let key = ends?.first ?? ""; key !== ""; key = next) {
    next = readLink(table, cell, key)?.next ?? "";
    clearBag(table, `${cell}v${key}`);
    table.delete(`${cell}k${key}`);
  }
  if (ends !== undefined) table.delete(cell);
}

/** The map keys one after the other, as they were encoded. A token is the M of the next one. */
export function readMapKeys(table: StateTable, cell: string, token: Uint8Array, pageBytes: number): StatePage {
  return pageOverKeys(table, cell, token, pageBytes, (key) => [bytesOf(key).subarray(mapKeyStart(key))]);
}

/**
 * KV<K, Iterable<V>> for each map key: key, count of values (4 bytes), values.
 * @param valueSkip undefined where the values' coder is none that the runner can walk, so that it cannot count them.
 * @param entryBytes of one key's values at most
 */
export function readMapEntries(
  table: StateTable,
  cell: string,
  valueSkip: Skip | undefined,
  token: Uint8Array,
  pageBytes: number,
  entryBytes: number,
): StatePage {
  return pageOverKeys(table, cell, token, pageBytes, (key) => {
    const values = readBag(table, `${cell}v${key}`, NO_BYTES, entryBytes);
    if (values.continuationToken.length > 0 || values.data.length > entryBytes)
      throw new WeirError({
        code: "RESOURCE_EXHAUSTED",
        domain: "user",
        message: `A key of a multimap state has more than ${entryBytes} bytes of values: too many for its entries.`,
        hint: "Read its keys, and the values key by key, or start Weir with a larger --limit mapEntryBytes.",
      });
    const count = new Uint8Array(4);
    new DataView(count.buffer).setInt32(0, countElements(values.data, valueSkip));
    return [bytesOf(key).subarray(mapKeyStart(key)), count, values.data];
  });
}

function countElements(data: Uint8Array, skip: Skip | undefined): number {
  if (skip === undefined)
    throw new WeirError({
      code: "UNIMPLEMENTED",
      domain: "user",
      message: "The entries of a multimap state can be read only where the runner knows the coder of its values.",
      hint: "Read its keys, and the values key by key, or give the values a standard coder.",
    });
  let count = 0;
  for (let at = 0; at < data.length; count++) at = skip(data, at);
  return count;
}

function pageOverKeys(
  table: StateTable,
  cell: string,
  token: Uint8Array,
  pageBytes: number,
  encode: (key: string) => readonly Uint8Array[],
): StatePage {
  const parts: Uint8Array[] = [];
  let byteLength = 0;
  let key = token.length === 0 ? (readEnds(table, cell)?.first ?? "") : binary(token);
  while (key !== "") {
    const link = readLink(table, cell, key);
    // The key that the token names has been removed meanwhile.
    if (link === undefined)
      return parts.length === 0 ? EMPTY_PAGE : { data: concatenated(parts, byteLength), continuationToken: NO_BYTES };
    const encoded = encode(key);
    const bytes = encoded.reduce((sum, part) => sum + part.length, 0);
    if (parts.length > 0 && byteLength + bytes > pageBytes)
      return { data: concatenated(parts, byteLength), continuationToken: bytesOf(key) };
    parts.push(...encoded);
    byteLength += bytes;
    key = link.next;
  }
  return { data: concatenated(parts, byteLength), continuationToken: NO_BYTES };
}

function addKey(table: StateTable, cell: string, key: string): void {
  const ends = readEnds(table, cell);
  const last = ends?.last ?? "";
  writeLink(table, cell, key, { previous: last, next: "" });
  if (last !== "") {
    const previous = readLink(table, cell, last) as Link;
    writeLink(table, cell, last, { previous: previous.previous, next: key });
  }
  writeEnds(table, cell, { first: ends?.first ?? key, last: key });
}

function readEnds(table: StateTable, cell: string): Ends | undefined {
  const row = table.get(cell);
  if (row === undefined) return undefined;
  if (row[0] !== HEAD_MULTIMAP) throw unexpectedRow("a multimap");
  const [first, last] = readPair(row, 1);
  return { first, last };
}

function writeEnds(table: StateTable, cell: string, { first, last }: Ends): void {
  table.put(cell, pairRow([HEAD_MULTIMAP], first, last));
}

function readLink(table: StateTable, cell: string, key: string): Link | undefined {
  const row = table.get(`${cell}k${key}`);
  if (row === undefined) return undefined;
  const [previous, next] = readPair(row, 0);
  return { previous, next };
}

function writeLink(table: StateTable, cell: string, key: string, { previous, next }: Link): void {
  table.put(`${cell}k${key}`, pairRow([], previous, next));
}

/** The length of the first text, the first, the second. */
function pairRow(tag: readonly number[], first: string, second: string): Uint8Array {
  const start = tag.length + varintLength(first.length);
  const row = new Uint8Array(start + first.length + second.length);
  row.set(tag);
  writeVarint(row, tag.length, first.length);
  row.set(Buffer.from(first + second, "latin1"), start);
  return row;
}

function readPair(row: Uint8Array, position: number): readonly [string, string] {
  const start = varintEnd(row, position, WHAT);
  const middle = start + readVarint(row, position, WHAT);
  return [binary(row.subarray(start, middle)), binary(row.subarray(middle))];
}

/** Where the map key begins in its M. */
function mapKeyStart(key: string): number {
  let at = 0;
  while (key.charCodeAt(at) >= 0x80) at++;
  return at + 1;
}
