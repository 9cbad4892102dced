/**
 * A side input as bytes that state requests can be answered from: values in a log, an index over windows and keys.
 *
 * Invariants: a value is stored once however many windows it is in; a page ends between elements and is no larger than
 * asked for, unless its first run of values (at most 16 KiB, or one value) is.
 * Source: the side input state keys of beam_fn_api.proto.
 */
import { present } from "../../base/assert.ts";
import type { Chunk } from "../../base/chunk.ts";
import { WeirError } from "../../base/errors.ts";
import { compileSkip, type Skip } from "../../coders/element-boundary.ts";
import { newHeader, WindowedValueLayout } from "../../coders/windowed-value.ts";
import type { CoderTable } from "../../graph/execution-graph.ts";
import type { MemoryBudget } from "../memory-budget.ts";
import type { SpillFile } from "../spill-file.ts";
import { NONE, ValueIndex } from "./value-index.ts";
import { type LogRange, ValueLog } from "./value-log.ts";

/** The kinds of state key that read a side input. */
export type SideInputKind = "iterable" | "multimap" | "multimap_keys" | "multimap_keys_values";

export interface SideInputPage {
  /** Whole elements, each in the nested context. */
  readonly data: Uint8Array;
  /** Empty for the last page. */
  readonly continuationToken: Uint8Array;
}

export interface MaterialisedSideInputInit {
  readonly coders: CoderTable;
  /** windowed_value coder of the elements. */
  readonly coderId: string;
  readonly accessPatternUrn: string;
  readonly budget: MemoryBudget;
  /** A key with more bytes of values is not read in bulk: the SDK falls back to looking it up. */
  readonly mapEntryBytes: number;
  openSpillFile(): Promise<SpillFile>;
}

const MULTIMAP_URN = "beam:side_input:multimap:v1";
const NO_BYTES = new Uint8Array(0);
/** What one page may have to read from disk when its values lie far apart. */
const MAX_RANGES_PER_PAGE = 4_096;

export class MaterialisedSideInput {
  readonly #init: MaterialisedSideInputInit;
  readonly #layout: WindowedValueLayout;
  /** Undefined where the access pattern knows no keys. */
  readonly #keySkip: Skip | undefined;
  readonly #index = new ValueIndex();
  readonly #log: ValueLog;
  readonly #header = newHeader();
  #chargedBytes = 0;
  #closed = false;

  /** @throws WeirError for a multimap whose elements are no KVs. */
  constructor(init: MaterialisedSideInputInit) {
    this.#init = init;
    this.#layout = new WindowedValueLayout(init.coders, init.coderId);
    this.#keySkip = init.accessPatternUrn === MULTIMAP_URN ? keySkipOf(init.coders, init.coderId) : undefined;
    this.#log = new ValueLog(init.budget, () => init.openSpillFile());
  }

  /** Resolves when the budget is kept again. */
  add(chunk: Chunk): Promise<void> | undefined {
    const bytes = chunk.data;
    const header = this.#header;
    for (let at = 0; at < bytes.byteLength;) {
      this.#layout.readHeader(bytes, at, header);
      const keyStart = header.valueStart;
      const keyEnd = this.#keySkip === undefined ? keyStart : this.#keySkip(bytes, keyStart);
      const end = this.#layout.valueSkip(bytes, keyStart);
      const offset = this.#log.append(bytes, keyEnd, end);
      let windowStart = header.windowsStart;
      for (let left = header.windowCount; left > 0; left--) {
        const windowEnd = this.#layout.windowSkip(bytes, windowStart);
        const window = this.#index.internWindow(bytes, windowStart, windowEnd);
        this.#index.add(window, bytes, keyStart, keyEnd, offset, end - keyEnd);
        windowStart = windowEnd;
      }
      at = end;
    }
    this.#charge(this.#index.byteLength);
    return this.#init.budget.relief();
  }

  #charge(bytes: number): void {
    this.#init.budget.reserve(bytes - this.#chargedBytes);
    this.#chargedBytes = bytes;
  }

  /** Nothing is added any more. */
  complete(): void {
    this.#log.complete();
  }

  /**
   * A page of what the state key asks for.
   * @param key for `multimap` only.
   * @param continuationToken of the page before, or empty.
   * @throws WeirError INVALID_ARGUMENT for a token that is not ours or a kind that the access pattern does not have.
   */
  page(
    kind: SideInputKind,
    window: Uint8Array,
    key: Uint8Array,
    continuationToken: Uint8Array,
    pageBytes: number,
  ): Promise<SideInputPage> | SideInputPage {
    if ((kind === "iterable") !== (this.#keySkip === undefined))
      throw invalid(`A side input with access pattern ${this.#init.accessPatternUrn} has no ${kind}.`);
    const windowNumber = this.#index.window(window);
    if (windowNumber === NONE) return { data: NO_BYTES, continuationToken: NO_BYTES };
    switch (kind) {
      case "iterable":
        return this.#values(windowNumber, NO_BYTES, continuationToken, pageBytes);
      case "multimap":
        return this.#values(windowNumber, key, continuationToken, pageBytes);
      case "multimap_keys":
        return this.#keys(windowNumber, continuationToken, pageBytes);
      case "multimap_keys_values":
        return this.#keysAndValues(windowNumber, continuationToken, pageBytes);
    }
  }

  #values(
    window: number,
    key: Uint8Array,
    token: Uint8Array,
    pageBytes: number,
  ): Promise<SideInputPage> | SideInputPage {
    const index = this.#index;
    const entry = index.entry(window, key);
    if (entry === NONE) return { data: NO_BYTES, continuationToken: NO_BYTES };
    let run = token.byteLength === 0 ? index.firstRun(entry) : numberOf(token, index.runCount);
    const page = new PageParts();
    while (run !== NONE && page.fits(index.runBytes(run), pageBytes)) {
      page.addRange(index.runOffset(run), index.runBytes(run));
      run = index.nextRun(run);
    }
    return page.read(this.#log, tokenOf(run));
  }

  #firstEntryOf(window: number, token: Uint8Array): number {
    if (token.byteLength === 0) return this.#index.firstEntry(window);
    const entry = numberOf(token, this.#index.entryCount);
    if (this.#index.windowOf(entry) !== window) throw invalid("The continuation token belongs to another window.");
    return entry;
  }

  #keys(window: number, token: Uint8Array, pageBytes: number): Promise<SideInputPage> | SideInputPage {
    const page = new PageParts();
    let entry = this.#firstEntryOf(window, token);
    for (; entry !== NONE; entry = this.#index.nextEntry(entry)) {
      const key = this.#index.keyOf(entry);
      if (!page.fits(key.byteLength, pageBytes)) break;
      page.addBytes(key);
    }
    return page.read(this.#log, tokenOf(entry));
  }

  /** KV<K, Iterable<V>> for each key: the key, the number of values in four bytes, the values. */
  #keysAndValues(window: number, token: Uint8Array, pageBytes: number): Promise<SideInputPage> | SideInputPage {
    const index = this.#index;
    const page = new PageParts();
    let entry = this.#firstEntryOf(window, token);
    for (; entry !== NONE; entry = index.nextEntry(entry)) {
      const key = index.keyOf(entry);
      const byteLength = key.byteLength + 4 + index.valueBytes(entry);
      if (!page.fits(byteLength, pageBytes)) break;
      if (byteLength > this.#init.mapEntryBytes)
        throw new WeirError({
          code: "RESOURCE_EXHAUSTED",
          domain: "user",
          message: `A key of a side input has ${byteLength} bytes of values: too many to read it in bulk.`,
          hint: "The SDK looks its keys up one at a time instead.",
        });
      page.addBytes(key);
      const count = new Uint8Array(4);
      new DataView(count.buffer).setInt32(0, index.valueCount(entry));
      page.addBytes(count);
      for (let run = index.firstRun(entry); run !== NONE; run = index.nextRun(run))
        page.addRange(index.runOffset(run), index.runBytes(run));
    }
    return page.read(this.#log, tokenOf(entry));
  }

  /** Idempotent. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#charge(0);
    }
    await this.#log.close();
  }
}

/** What a page is put together from: bytes, and ranges of the log that are joined where they follow each other. */
class PageParts {
  /** A range of the log by its number in `ranges`, or bytes. */
  readonly #parts: (Uint8Array | number)[] = [];
  readonly #ranges: { offset: number; byteLength: number }[] = [];
  #byteLength = 0;

  /** The first part always does. */
  fits(byteLength: number, pageBytes: number): boolean {
    if (this.#parts.length === 0) return true;
    return this.#byteLength + byteLength <= pageBytes && this.#ranges.length < MAX_RANGES_PER_PAGE;
  }

  addBytes(bytes: Uint8Array): void {
    this.#byteLength += bytes.byteLength;
    this.#parts.push(bytes);
  }

  addRange(offset: number, byteLength: number): void {
    this.#byteLength += byteLength;
    const last = this.#ranges.at(-1);
    if (typeof this.#parts.at(-1) === "number" && last !== undefined && last.offset + last.byteLength === offset) {
      last.byteLength += byteLength;
      return;
    }
    this.#parts.push(this.#ranges.length);
    this.#ranges.push({ offset, byteLength });
  }

  read(log: ValueLog, continuationToken: Uint8Array): Promise<SideInputPage> | SideInputPage {
    const finish = (values: readonly Uint8Array[]): SideInputPage => {
      const parts = this.#parts.map((part) => (typeof part === "number" ? present(values[part], "a range") : part));
      const [only] = parts;
      return { data: parts.length === 1 && only !== undefined ? only : Buffer.concat(parts), continuationToken };
    };
    const values = log.read(this.#ranges as readonly LogRange[]);
    return values instanceof Promise ? values.then(finish) : finish(values);
  }
}

function keySkipOf(coders: CoderTable, coderId: string): Skip {
  const element = coders[coders[coderId]?.components[0] ?? ""];
  if (element?.urn !== "beam:coder:kv:v1")
    throw invalid(`A multimap side input needs key-value pairs; its coder is ${element?.urn ?? "not defined"}.`);
  return compileSkip(coders, element.components[0] ?? "");
}

/** Where the next page begins; empty after the last. */
function tokenOf(position: number): Uint8Array {
  if (position === NONE) return NO_BYTES;
  const token = new Uint8Array(4);
  new DataView(token.buffer).setUint32(0, position);
  return token;
}

function numberOf(token: Uint8Array, end: number): number {
  if (token.byteLength === 4) {
    const position = new DataView(token.buffer, token.byteOffset).getUint32(0);
    if (position < end) return position;
  }
  throw invalid("The continuation token is none of this side input's.");
}

function invalid(message: string): WeirError {
  return new WeirError({ code: "INVALID_ARGUMENT", domain: "user", message });
}
