/**
 * A bag: an append-only byte stream that can be cleared. A small one is its head row; a larger one is chunk rows and a
 * head with their count, so that neither reading a page nor appending touches more than a page or a chunk.
 *
 * Invariants: a chunk consists of whole appends, hence of whole elements (the runner does not know their coder); where
 * a chunk begins never changes until the bag is cleared, so a continuation token, which is a chunk's number, stays good
 * over bundles: the Python SDK caches the first page and a token for the rest.
 *
 * Rows: HEAD_INLINE_BAG, bytes | HEAD_CHUNKED_BAG, count (4); chunk n at cell + "c" + n (4).
 */
import { readUint32 } from "../../time/timestamp.ts";
import type { StateTable } from "../../state/state-rows.ts";
import {
  bytesOf,
  concatenated,
  EMPTY_PAGE,
  foreignToken,
  HEAD_CHUNKED_BAG,
  HEAD_INLINE_BAG,
  NO_BYTES,
  type StatePage,
  uint32Text,
  unexpectedRow,
} from "./user-state-cell.ts";

/** @param token of the page before, or empty. */
export function readBag(table: StateTable, cell: string, token: Uint8Array, pageBytes: number): StatePage {
  if (token.length !== 0 && token.length !== 4) throw foreignToken();
  const first = token.length === 0 ? 0 : readUint32(token, 0);
  const head = table.get(cell);
  if (head === undefined) return EMPTY_PAGE;
  const count = chunkCount(head);
  if (count === 0) return first === 0 ? { data: head.subarray(1), continuationToken: NO_BYTES } : EMPTY_PAGE;
  const parts: Uint8Array[] = [];
  let byteLength = 0;
  for (let number = first; number < count; number++) {
    const chunk = chunkRow(table, cell, number);
    if (parts.length > 0 && byteLength + chunk.length > pageBytes)
      return { data: concatenated(parts, byteLength), continuationToken: bytesOf(uint32Text(number)) };
    parts.push(chunk);
    byteLength += chunk.length;
  }
  return { data: concatenated(parts, byteLength), continuationToken: NO_BYTES };
}

/** @param data whole elements; not kept. */
export function appendToBag(table: StateTable, cell: string, data: Uint8Array, chunkBytes: number): void {
  const head = table.get(cell);
  if (head === undefined) {
    if (data.length <= chunkBytes) table.put(cell, inlineHead(data));
    else putChunks(table, cell, 0, [data.slice()]);
    return;
  }
  const count = chunkCount(head);
  if (count === 0) {
    if (head.length - 1 + data.length <= chunkBytes) table.put(cell, joined(head, data));
    else putChunks(table, cell, 0, [head.slice(1), data.slice()]);
    return;
  }
  const tail = chunkRow(table, cell, count - 1);
  if (tail.length + data.length <= chunkBytes) table.put(chunkKey(cell, count - 1), joined(tail, data));
  else putChunks(table, cell, count, [data.slice()]);
}

export function clearBag(table: StateTable, cell: string): void {
  const head = table.get(cell);
  if (head === undefined) return;
  const count = chunkCount(head);
  for (let number = 0; number < count; number++) table.delete(chunkKey(cell, number));
  table.delete(cell);
}

function putChunks(table: StateTable, cell: string, first: number, chunks: readonly Uint8Array[]): void {
  // An empty bag may be there (a map key without values): a chunk without bytes would be a page without bytes.
  const filled = chunks.filter((chunk) => chunk.length > 0);
  filled.forEach((chunk, index) => table.put(chunkKey(cell, first + index), chunk));
  table.put(cell, bytesOf(String.fromCharCode(HEAD_CHUNKED_BAG) + uint32Text(first + filled.length)));
}

function chunkKey(cell: string, number: number): string {
  return `${cell}c${uint32Text(number)}`;
}

function chunkRow(table: StateTable, cell: string, number: number): Uint8Array {
  const chunk = table.get(chunkKey(cell, number));
  if (chunk === undefined) throw unexpectedRow("complete: a chunk of a bag is missing");
  return chunk;
}

/** 0 for a bag that is its head. */
function chunkCount(head: Uint8Array): number {
  if (head[0] === HEAD_INLINE_BAG) return 0;
  if (head[0] !== HEAD_CHUNKED_BAG) throw unexpectedRow("a bag");
  return readUint32(head, 1);
}

function inlineHead(data: Uint8Array): Uint8Array {
  const row = new Uint8Array(1 + data.length);
  row[0] = HEAD_INLINE_BAG;
  row.set(data, 1);
  return row;
}

function joined(row: Uint8Array, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(row.length + data.length);
  bytes.set(row);
  bytes.set(data, row.length);
  return bytes;
}
