/**
 * What one side input of one streaming task holds: for each window its values in segments, each of them a row.
 *
 * Row: flags (bit 0: early), rank (float64), window and unit, each with its length (uint32), number of values (uint32),
 * values. A unit is the part of a window that a pane replaces: a key of a KV, or "" for all of it.
 *
 * Invariant: values are in the rows only, which have a memory budget, and are read from there.
 */
import { present } from "../../../base/assert.ts";
import type { CoderTable } from "../../../graph/execution-graph.ts";
import type { Chunk } from "../../../base/chunk.ts";
import { compileSkip, componentOf, type Skip } from "../../../coders/element-boundary.ts";
import { decodePaneInfo } from "../../../coders/pane-info.ts";
import { newHeader, WindowedValueLayout } from "../../../coders/windowed-value.ts";
import type { StateTable } from "../../../state/state-rows.ts";
import { readTimestamp } from "../../../time/timestamp.ts";
import type { PanePolicy, PaneRule } from "./pane-policy.ts";

export interface Segment {
  readonly rowKey: string;
  readonly rank: number;
  readonly early: boolean;
  readonly count: number;
  /** Of its values. */
  readonly byteLength: number;
}

export interface WindowContent {
  /** Never an empty list. */
  readonly units: Map<string, Segment[]>;
  /** Changes with the content; over all windows no two contents have the same. */
  version: number;
}

export function segmentsOf(content: WindowContent): Segment[] {
  return [...content.units.values()].flat();
}

/** Segments below are joined with what follows, so that a trickle of elements does not become a row each. */
const SMALL_SEGMENT_BYTES = 4 * 1024;
/** A row is read as a whole for one key's values. A larger value is a row of its own. */
const MAX_SEGMENT_BYTES = 64 * 1024;

interface Group {
  readonly window: string;
  readonly unit: string;
  readonly rule: PaneRule;
  readonly values: Uint8Array[];
}

export class SideInputContent {
  readonly #table: StateTable;
  readonly #rowPrefix: string;
  readonly #policy: PanePolicy;
  readonly #layout: WindowedValueLayout;
  readonly #windows = new Map<string, WindowContent>();
  readonly #header = newHeader();
  #nextRow = 0;
  #nextVersion = 1;
  /** Over one value, and over the key of one; undefined where values are no KVs. */
  readonly valueSkip: Skip;
  readonly keySkip: Skip | undefined;
  readonly #onChange: (window: string) => void;

  /**
   * @param coderId windowed_value coder of the elements
   * @param onChange called before the content of a window changes
   */
  constructor(
    table: StateTable,
    rowPrefix: string,
    coders: CoderTable,
    coderId: string,
    policyOf: (isKeyValue: boolean) => PanePolicy,
    onChange: (window: string) => void,
  ) {
    this.#table = table;
    this.#rowPrefix = rowPrefix;
    this.#layout = new WindowedValueLayout(coders, coderId);
    this.#onChange = onChange;
    this.valueSkip = this.#layout.valueSkip;
    const coder = coders[this.#layout.valueCoderId];
    this.keySkip =
      coder?.urn === "beam:coder:kv:v1" ? compileSkip(coders, componentOf(coder, 0, "of a side input")) : undefined;
    this.#policy = policyOf(this.keySkip !== undefined);
    this.#restore();
  }

  #restore(): void {
    const rows: [number, string, Uint8Array][] = [];
    for (const [rowKey, row] of this.#table.entries())
      if (rowKey.startsWith(this.#rowPrefix)) rows.push([Number(rowKey.slice(this.#rowPrefix.length)), rowKey, row]);
    rows.sort(([left], [right]) => left - right);
    for (const [id, rowKey, row] of rows) {
      this.#nextRow = id + 1;
      const { window, unit, ...segment } = decodeRow(row);
      const { units } = this.#contentOf(window);
      const segments = units.get(unit);
      if (segments === undefined) units.set(unit, [{ rowKey, ...segment }]);
      else segments.push({ rowKey, ...segment });
    }
  }

  /** Whole encoded values of a segment that there is. */
  valuesOf({ rowKey }: Segment): Uint8Array {
    const row = present(this.#table.get(rowKey), "a row of a side input");
    return row.subarray(valuesStartOf(row));
  }

  window(window: string): WindowContent | undefined {
    return this.#windows.get(window);
  }

  get windows(): Iterable<string> {
    return this.#windows.keys();
  }

  add(chunk: Chunk): void {
    for (const group of this.#groups(chunk.data)) this.#apply(group);
  }

  /** The panes of a chunk's elements, in the order of their first elements. */
  #groups(bytes: Uint8Array): Iterable<Group> {
    const groups = new Map<string, Group>();
    const header = this.#header;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at < bytes.length;) {
      this.#layout.readHeader(bytes, at, header);
      const start = header.valueStart;
      const end = this.valueSkip(bytes, start);
      const rule = this.#policy.rule(decodePaneInfo(bytes, header.paneStart), readTimestamp(bytes, at));
      const unit =
        rule.perKey && this.keySkip !== undefined ? text.toString("latin1", start, this.keySkip(bytes, start)) : "";
      const value = bytes.subarray(start, end);
      for (let left = header.windowCount, windowStart = header.windowsStart; left > 0; left--) {
        const windowEnd = this.#layout.windowSkip(bytes, windowStart);
        const window = text.toString("latin1", windowStart, windowEnd);
        const name = `${rule.rank} ${rule.early} ${window.length} ${window}${unit}`;
        const group = groups.get(name);
        if (group === undefined) groups.set(name, { window, unit, rule, values: [value] });
        else group.values.push(value);
        windowStart = windowEnd;
      }
      at = end;
    }
    return groups.values();
  }

  #apply({ window, unit, rule, values }: Group): void {
    const content = this.#contentOf(window);
    const { rank } = rule;
    const segments = content.units.get(unit) ?? [];
    switch (rule.replacement) {
      case "add":
        break;
      case "latest":
        if (segments.some((segment) => segment.rank !== rank)) this.#remove(window, content, unit, () => true);
        break;
      case "newer":
        if (segments.some((segment) => segment.rank > rank)) return;
        this.#remove(window, content, unit, (segment) => segment.rank < rank);
        break;
      case "newer-or-add":
        this.#remove(window, content, unit, (segment) => segment.rank < rank);
        break;
      case "single":
        if (segments.length === 1 && segments[0]?.count === 1)
          this.#remove(window, content, unit, (segment) => segment.rank < rank);
    }
    for (const part of partsOf(values, MAX_SEGMENT_BYTES)) this.#append(window, content, unit, rule, part);
  }

  #append(window: string, content: WindowContent, unit: string, rule: PaneRule, values: readonly Uint8Array[]): void {
    this.#changed(window, content);
    let segments = content.units.get(unit);
    if (segments === undefined) content.units.set(unit, (segments = []));
    const last = segments.at(-1);
    const { rank, early } = rule;
    const isJoined =
      last !== undefined && last.rank === rank && last.early === early && last.byteLength < SMALL_SEGMENT_BYTES;
    const count = values.length + (isJoined ? last.count : 0);
    const rowKey = isJoined ? last.rowKey : `${this.#rowPrefix}${this.#nextRow++}`;
    const all = isJoined ? [this.valuesOf(last), ...values] : values;
    const { row, valuesStart } = encodeRow(window, { unit, rank, early, count }, all);
    const segment: Segment = { rowKey, rank, early, count, byteLength: row.length - valuesStart };
    this.#table.put(rowKey, row);
    if (isJoined) segments[segments.length - 1] = segment;
    else segments.push(segment);
  }

  #remove(window: string, content: WindowContent, unit: string, isRemoved: (segment: Segment) => boolean): void {
    const segments = content.units.get(unit) ?? [];
    const kept = segments.filter((segment) => !isRemoved(segment));
    if (kept.length === segments.length) return;
    this.#changed(window, content);
    for (const segment of segments) if (isRemoved(segment)) this.#table.delete(segment.rowKey);
    if (kept.length === 0) content.units.delete(unit);
    else content.units.set(unit, kept);
  }

  /** The window's end has passed: early panes are repeated in those that are on time, if there is any. */
  settle(window: string): void {
    const content = this.#windows.get(window);
    if (content === undefined || segmentsOf(content).every((segment) => segment.early)) return;
    for (const unit of [...content.units.keys()]) this.#remove(window, content, unit, (segment) => segment.early);
  }

  drop(window: string): void {
    const content = this.#windows.get(window);
    if (content === undefined) return;
    for (const segment of segmentsOf(content)) this.#table.delete(segment.rowKey);
    this.#windows.delete(window);
  }

  #contentOf(window: string): WindowContent {
    let content = this.#windows.get(window);
    if (content === undefined)
      this.#windows.set(window, (content = { units: new Map(), version: this.#nextVersion++ }));
    return content;
  }

  #changed(window: string, content: WindowContent): void {
    this.#onChange(window);
    content.version = this.#nextVersion++;
  }
}

/** In their order; a part has at most so many bytes, or one value. */
function* partsOf(values: readonly Uint8Array[], maxBytes: number): Iterable<readonly Uint8Array[]> {
  let part: Uint8Array[] = [];
  let bytes = 0;
  for (const value of values) {
    if (part.length > 0 && bytes + value.length > maxBytes) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(value);
    bytes += value.length;
  }
  if (part.length > 0) yield part;
}

const FIXED_BYTES = 1 + 8 + 4 + 4 + 4;

function encodeRow(
  window: string,
  { unit, rank, early, count }: Pick<Segment, "rank" | "early" | "count"> & { readonly unit: string },
  values: readonly Uint8Array[],
): { readonly row: Uint8Array; readonly valuesStart: number } {
  const valuesStart = FIXED_BYTES + window.length + unit.length;
  const row = Buffer.alloc(values.reduce((length, value) => length + value.length, valuesStart));
  row.writeUInt8(early ? 1 : 0, 0);
  row.writeDoubleBE(rank, 1);
  row.writeUInt32BE(window.length, 9);
  row.writeUInt32BE(unit.length, 13);
  row.writeUInt32BE(count, 17);
  row.write(window, FIXED_BYTES, "latin1");
  row.write(unit, FIXED_BYTES + window.length, "latin1");
  let at = valuesStart;
  for (const value of values) {
    row.set(value, at);
    at += value.length;
  }
  return { row, valuesStart };
}

function valuesStartOf(row: Uint8Array): number {
  const view = new DataView(row.buffer, row.byteOffset, row.byteLength);
  return FIXED_BYTES + view.getUint32(9) + view.getUint32(13);
}

function decodeRow(bytes: Uint8Array): Omit<Segment, "rowKey"> & { readonly window: string; readonly unit: string } {
  const row = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const unitStart = FIXED_BYTES + row.readUInt32BE(9);
  const valuesStart = unitStart + row.readUInt32BE(13);
  return {
    window: row.toString("latin1", FIXED_BYTES, unitStart),
    unit: row.toString("latin1", unitStart, valuesStart),
    rank: row.readDoubleBE(1),
    early: (row.readUInt8(0) & 1) !== 0,
    count: row.readUInt32BE(17),
    byteLength: bytes.length - valuesStart,
  };
}
