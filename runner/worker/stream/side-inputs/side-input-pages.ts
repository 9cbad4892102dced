/**
 * Pages of a window's content, as state requests ask for them.
 *
 * Continuation token: the content's version and a position, so that a page of other content is never handed out as the
 * next one of this. Source: the side input state keys of beam_fn_api.proto.
 */
import { present } from "../../../base/assert.ts";
import { WeirError } from "../../../base/errors.ts";
import type { Skip } from "../../../coders/element-boundary.ts";
import type { SideInputKind, SideInputPage } from "../../../state/side-input/materialised-side-input.ts";
import { type Segment, segmentsOf, type WindowContent } from "./side-input-content.ts";

const NO_BYTES = new Uint8Array(0);
const EMPTY: SideInputPage = { data: NO_BYTES, continuationToken: NO_BYTES };
const TOKEN_BYTES = 16;

/** Where a key's values lie: of each its segment in the index, its start and its end. */
interface KeyValues {
  readonly places: number[];
  valueBytes: number;
}

const PLACE_NUMBERS = 3;

/** Where a content's values are by key, made when it is first asked for a key: keys are in memory, values are not. */
interface KeyIndex {
  readonly version: number;
  readonly segments: readonly Segment[];
  readonly keys: readonly string[];
  readonly byKey: ReadonlyMap<string, KeyValues>;
}

export class SideInputPages {
  readonly #valuesOf: (segment: Segment) => Uint8Array;
  readonly #valueSkip: Skip;
  readonly #keySkip: Skip | undefined;
  readonly #entryBytes: number;
  readonly #indexes = new WeakMap<WindowContent, KeyIndex>();

  /**
   * @param keySkip of a multimap
   * @param entryBytes of one key's values at most, read in bulk
   */
  constructor(
    valuesOf: (segment: Segment) => Uint8Array,
    valueSkip: Skip,
    keySkip: Skip | undefined,
    entryBytes: number,
  ) {
    this.#valuesOf = valuesOf;
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
    if (kind === "iterable") return this.#iterable(content, start, pageBytes);
    const index = this.#indexOf(content);
    switch (kind) {
      case "multimap": {
        const values = index.byKey.get(Buffer.from(key).toString("latin1"));
        if (values === undefined) return EMPTY;
        const count = values.places.length / PLACE_NUMBERS;
        return pageOf(content, count, start, pageBytes, (at) => this.#valueAt(index, values, at));
      }
      case "multimap_keys":
        return pageOf(content, index.keys.length, start, pageBytes, (at) => Buffer.from(keyAt(index, at), "latin1"));
      case "multimap_keys_values":
        return pageOf(content, index.keys.length, start, pageBytes, (at) => this.#entryAt(index, keyAt(index, at)));
    }
  }

  #valueAt({ segments }: KeyIndex, { places }: KeyValues, at: number): Uint8Array {
    const [segment = 0, start, end] = places.slice(at * PLACE_NUMBERS, (at + 1) * PLACE_NUMBERS);
    return this.#valuesOf(present(segments[segment], "a segment of the index")).subarray(start, end);
  }

  /** KV<K, Iterable<V>>: the key, the number of values in four bytes, the values. */
  #entryAt(index: KeyIndex, key: string): Uint8Array {
    const values = present(index.byKey.get(key), "a key of the index");
    if (values.valueBytes > this.#entryBytes)
      throw new WeirError({
        code: "RESOURCE_EXHAUSTED",
        domain: "user",
        message: `A key of a side input has ${values.valueBytes} bytes of values: too many to read it in bulk.`,
        hint: "The SDK looks its keys up one at a time instead.",
      });
    const valueCount = values.places.length / PLACE_NUMBERS;
    const count = Buffer.alloc(4);
    count.writeInt32BE(valueCount);
    const all = Array.from({ length: valueCount }, (_, at) => this.#valueAt(index, values, at));
    return Buffer.concat([Buffer.from(key, "latin1"), count, ...all]);
  }

  /** Positions count bytes over all segments. */
  #iterable(content: WindowContent, start: number, pageBytes: number): SideInputPage {
    const parts: Uint8Array[] = [];
    let left = pageBytes;
    let segmentStart = 0;
    for (const segment of segmentsOf(content)) {
      const from = Math.max(0, start - segmentStart);
      segmentStart += segment.byteLength;
      if (from >= segment.byteLength) continue;
      const values = this.#valuesOf(segment);
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
    const segments = segmentsOf(content);
    const keySkip = this.#keySkip as Skip;
    for (const [number, segment] of segments.entries()) {
      const values = this.#valuesOf(segment);
      const text = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
      for (let at = 0; at < values.length;) {
        const keyEnd = keySkip(values, at);
        const end = this.#valueSkip(values, at);
        const name = text.toString("latin1", at, keyEnd);
        let entry = byKey.get(name);
        if (entry === undefined) byKey.set(name, (entry = { places: [], valueBytes: 0 }));
        entry.places.push(number, keyEnd, end);
        entry.valueBytes += end - keyEnd;
        at = end;
      }
    }
    const index: KeyIndex = { version: content.version, segments, keys: [...byKey.keys()], byKey };
    this.#indexes.set(content, index);
    return index;
  }
}

function keyAt({ keys }: KeyIndex, at: number): string {
  return present(keys[at], "a key of the index");
}

/** As many items as fit, at least one. */
function pageOf(
  content: WindowContent,
  count: number,
  start: number,
  pageBytes: number,
  encoded: (index: number) => Uint8Array,
): SideInputPage {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for (let at = start; at < count; at++) {
    const part = encoded(at);
    if (at > start && bytes + part.length > pageBytes)
      return { data: joined(parts), continuationToken: tokenOf(content.version, at) };
    parts.push(part);
    bytes += part.length;
  }
  return { data: joined(parts), continuationToken: NO_BYTES };
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
