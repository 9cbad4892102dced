/**
 * Pages of a window's content, as state requests ask for them.
 *
 * Continuation token: the content's version and a position, so that a page of other content is never handed out as the
 * next one of this. Source: the side input state keys of beam_fn_api.proto.
 */
import { WeirError } from "../../../base/errors.ts";
import type { Skip } from "../../../coders/element-boundary.ts";
import type { SideInputKind, SideInputPage } from "../../../state/side-input/materialised-side-input.ts";
import { segmentsOf, type WindowContent } from "./side-input-content.ts";

const NO_BYTES = new Uint8Array(0);
const EMPTY: SideInputPage = { data: NO_BYTES, continuationToken: NO_BYTES };
const TOKEN_BYTES = 16;

interface KeyValues {
  readonly key: Uint8Array;
  readonly values: Uint8Array[];
  valueBytes: number;
}

/** A content's values by key, made when it is first asked for a key. */
interface KeyIndex {
  readonly version: number;
  readonly entries: KeyValues[];
  readonly byKey: ReadonlyMap<string, KeyValues>;
}

export class SideInputPages {
  readonly #valueSkip: Skip;
  readonly #keySkip: Skip | undefined;
  readonly #entryBytes: number;
  readonly #indexes = new WeakMap<WindowContent, KeyIndex>();

  /**
   * @param keySkip of a multimap
   * @param entryBytes of one key's values at most, read in bulk
   */
  constructor(valueSkip: Skip, keySkip: Skip | undefined, entryBytes: number) {
    this.#valueSkip = valueSkip;
    this.#keySkip = keySkip;
    this.#entryBytes = entryBytes;
  }

  /** @throws WeirError INVALID_ARGUMENT for a token that is none of this content's, or a kind that it does not have. */
  page(
    content: WindowContent | undefined,
    kind: SideInputKind,
    key: Uint8Array,
    token: Uint8Array,
    pageBytes: number,
  ): SideInputPage {
    if ((kind === "iterable") !== (this.#keySkip === undefined)) throw invalid(`This side input has no ${kind}.`);
    if (content === undefined) {
      if (token.length > 0) throw stale();
      return EMPTY;
    }
    const start = token.length === 0 ? 0 : positionOf(token, content.version);
    switch (kind) {
      case "iterable":
        return this.#iterable(content, start, pageBytes);
      case "multimap": {
        const values = this.#indexOf(content).byKey.get(Buffer.from(key).toString("latin1"))?.values ?? [];
        return pageOf(content, values, start, pageBytes, (value) => value);
      }
      case "multimap_keys":
        return pageOf(content, this.#indexOf(content).entries, start, pageBytes, (entry) => entry.key);
      case "multimap_keys_values":
        return pageOf(content, this.#indexOf(content).entries, start, pageBytes, (entry) =>
          encodeEntry(entry, this.#entryBytes),
        );
    }
  }

  /** Positions count bytes over all segments. */
  #iterable(content: WindowContent, start: number, pageBytes: number): SideInputPage {
    const parts: Uint8Array[] = [];
    let left = pageBytes;
    let segmentStart = 0;
    for (const { values } of segmentsOf(content)) {
      const from = Math.max(0, start - segmentStart);
      segmentStart += values.length;
      if (from >= values.length) continue;
      let end = from;
      if (values.length - from <= left) end = values.length;
      else
        while (end < values.length) {
          const next = this.#valueSkip(values, end);
          if (next - from > left && (end > from || parts.length > 0)) break;
          end = next;
        }
      if (end > from) parts.push(values.subarray(from, end));
      left -= end - from;
      if (end < values.length)
        return { data: joined(parts), continuationToken: tokenOf(content.version, segmentStart - values.length + end) };
    }
    return { data: joined(parts), continuationToken: NO_BYTES };
  }

  #indexOf(content: WindowContent): KeyIndex {
    const known = this.#indexes.get(content);
    if (known?.version === content.version) return known;
    const byKey = new Map<string, KeyValues>();
    const keySkip = this.#keySkip as Skip;
    for (const { values } of segmentsOf(content)) {
      const text = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
      for (let at = 0; at < values.length;) {
        const keyEnd = keySkip(values, at);
        const end = this.#valueSkip(values, at);
        const name = text.toString("latin1", at, keyEnd);
        let entry = byKey.get(name);
        if (entry === undefined)
          byKey.set(name, (entry = { key: values.subarray(at, keyEnd), values: [], valueBytes: 0 }));
        entry.values.push(values.subarray(keyEnd, end));
        entry.valueBytes += end - keyEnd;
        at = end;
      }
    }
    const index: KeyIndex = { version: content.version, entries: [...byKey.values()], byKey };
    this.#indexes.set(content, index);
    return index;
  }
}

/** As many items as fit, at least one. */
function pageOf<Item>(
  content: WindowContent,
  items: readonly Item[],
  start: number,
  pageBytes: number,
  encode: (item: Item) => Uint8Array,
): SideInputPage {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for (let at = start; at < items.length; at++) {
    const part = encode(items[at] as Item);
    if (at > start && bytes + part.length > pageBytes)
      return { data: joined(parts), continuationToken: tokenOf(content.version, at) };
    parts.push(part);
    bytes += part.length;
  }
  return { data: joined(parts), continuationToken: NO_BYTES };
}

/** KV<K, Iterable<V>>: the key, the number of values in four bytes, the values. */
function encodeEntry(entry: KeyValues, entryBytes: number): Uint8Array {
  if (entry.valueBytes > entryBytes)
    throw new WeirError({
      code: "RESOURCE_EXHAUSTED",
      domain: "user",
      message: `A key of a side input has ${entry.valueBytes} bytes of values: too many to read it in bulk.`,
      hint: "The SDK looks its keys up one at a time instead.",
    });
  const count = Buffer.alloc(4);
  count.writeInt32BE(entry.values.length);
  return Buffer.concat([entry.key, count, ...entry.values]);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const [only] = parts;
  return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
}

function tokenOf(version: number, position: number): Uint8Array {
  const token = Buffer.alloc(TOKEN_BYTES);
  token.writeDoubleBE(version, 0);
  token.writeDoubleBE(position, 8);
  return token;
}

function positionOf(token: Uint8Array, version: number): number {
  if (token.length !== TOKEN_BYTES) throw stale();
  const view = new DataView(token.buffer, token.byteOffset, token.byteLength);
  if (view.getFloat64(0) !== version) throw stale();
  return view.getFloat64(8);
}

function stale(): WeirError {
  return invalid("The continuation token belongs to other content of the side input.");
}

function invalid(message: string): WeirError {
  return new WeirError({ code: "INVALID_ARGUMENT", domain: "user", message });
}
