// Grouping for tests: encoded elements in, decoded groups out, and a naive model to compare with.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Chunk } from "../../base/chunk.ts";
import { readVarint, varintEnd, varintLength, writeVarint } from "../../coders/byte-reader.ts";
import { encodeIntervalWindow } from "../../coders/interval-window.ts";
import { encodeHeader, newHeader, WindowedValueLayout } from "../../coders/windowed-value.ts";
import type { CoderSpec, CoderTable, WindowingSpec } from "../../graph/execution-graph.ts";
import { readExactMs, readTimestamp, type Timestamp } from "../../time/timestamp.ts";
import { GroupByKeyTable, type GroupByKeyTableInit } from "./group-by-key-table.ts";

export const spill = await mkdtemp(join(tmpdir(), "weir-grouping-"));

/** Of the test file that imports this: it removes it at its end. */
export const removeSpill = (): Promise<void> => rm(spill, { recursive: true, force: true });

export function coder(urn: string, ...components: string[]): CoderSpec {
  return { urn: `beam:coder:${urn}:v1`, payload: new Uint8Array(), components };
}

export const CODERS: CoderTable = {
  bytes: coder("bytes"),
  kv: coder("kv", "bytes", "bytes"),
  values: coder("state_backed_iterable", "bytes"),
  grouped: coder("kv", "bytes", "values"),
  global: coder("global_window"),
  interval: coder("interval_window"),
  custom: coder("custom_window", "bytes"),
  ...Object.fromEntries(
    ["global", "interval", "custom"].flatMap((window) => [
      [`in-${window}`, coder("windowed_value", "kv", window)],
      [`out-${window}`, coder("windowed_value", "grouped", window)],
    ]),
  ),
};

export type WindowKind = "global" | "interval" | "custom";

export function windowing(window: WindowKind, overrides: Partial<WindowingSpec> = {}): WindowingSpec {
  return {
    windowFnUrn: "beam:window_fn:fixed_windows:v1",
    windowFnPayload: new Uint8Array(),
    windowCoderId: window,
    merging: false,
    timestampCombiner: "END_OF_WINDOW",
    trigger: new Uint8Array(),
    accumulationMode: "DISCARDING",
    allowedLatenessMs: 0,
    closingBehavior: "EMIT_IF_NONEMPTY",
    asksTriggerFor: "ELEMENTS_TOGETHER",
    onTimeBehavior: "FIRE_ALWAYS",
    ...overrides,
  };
}

export const SESSIONS = { windowFnUrn: "beam:window_fn:session_windows:v1", merging: true } as const;

export function open(window: WindowKind, overrides: Partial<GroupByKeyTableInit> = {}): Promise<GroupByKeyTable> {
  return GroupByKeyTable.open({
    coders: CODERS,
    inputCoderId: `in-${window}`,
    outputCoderId: `out-${window}`,
    windowing: windowing(window),
    stateBacked: true,
    memoryBudgetBytes: 1 << 20,
    stateBackedIterableBytes: 1 << 16,
    pageBytes: 256 << 10,
    chunkBytes: 4096,
    spillDirectory: spill,
    ...overrides,
  });
}

export interface Element {
  readonly timestamp: number;
  readonly windows: readonly Uint8Array[];
  readonly key: string;
  readonly value: string;
}

function lengthPrefixed(text: string): Buffer {
  const content = Buffer.from(text);
  const prefix = Buffer.alloc(varintLength(content.length));
  writeVarint(prefix, 0, content.length);
  return Buffer.concat([prefix, content]);
}

export function encode({ timestamp, windows, key, value }: Element): Buffer {
  return Buffer.concat([encodeHeader(timestamp as Timestamp, windows), lengthPrefixed(key), lengthPrefixed(value)]);
}

/** Several elements to a chunk, at an odd place in its memory as received messages have them. */
export function chunksOf(elements: readonly Element[], perChunk = 7): Chunk[] {
  const chunks: Chunk[] = [];
  for (let index = 0; index < elements.length; index += perChunk) {
    const part = elements.slice(index, index + perChunk);
    const data = Buffer.concat([Buffer.alloc(3), ...part.map(encode)]).subarray(3);
    chunks.push({ data, elementCount: part.length });
  }
  return chunks;
}

export interface Grouped {
  readonly timestamp: Timestamp;
  readonly exactTimestamp: bigint;
  readonly window: string;
  readonly windowBytes: Uint8Array;
  readonly pane: number;
  readonly key: string;
  readonly values: string[];
  readonly fromState: boolean;
}

export function readText(bytes: Uint8Array, position: number): { text: string; end: number } {
  const start = varintEnd(bytes, position, "test");
  const end = start + readVarint(bytes, position, "test");
  return { text: Buffer.from(bytes.subarray(start, end)).toString(), end };
}

export function readTexts(bytes: Uint8Array): string[] {
  const texts: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const { text, end } = readText(bytes, at);
    texts.push(text);
    at = end;
  }
  return texts;
}

export async function readPages(table: GroupByKeyTable, token: Uint8Array, pageBytes: number): Promise<string[]> {
  const values: string[] = [];
  let continuation: Uint8Array = new Uint8Array();
  do {
    const page = await table.readLargeGroup(token, continuation, pageBytes);
    values.push(...readTexts(page.data));
    ({ continuation } = page);
  } while (continuation.length > 0);
  return values;
}

export async function decode(table: GroupByKeyTable, window: WindowKind, chunk: Chunk): Promise<Grouped[]> {
  const layout = new WindowedValueLayout(CODERS, `out-${window}`);
  const header = newHeader();
  const groups: Grouped[] = [];
  const { data } = chunk;
  for (let at = 0; at < data.length; at = layout.skip(data, at)) {
    layout.readHeader(data, at, header);
    const windowBytes = data.slice(header.windowsStart, header.windowsEnd);
    const { text: key, end: keyEnd } = readText(data, header.valueStart);
    const end = layout.skip(data, at);
    const count = Buffer.from(data.subarray(keyEnd, keyEnd + 4)).readInt32BE();
    const token = data.subarray(keyEnd + 4 + 10 + 1, end);
    const values = count === -1 ? await readPages(table, token, 1000) : readTexts(data.subarray(keyEnd + 4, end));
    if (count !== -1 && count !== values.length) throw new Error(`count ${count}, but ${values.length} values`);
    groups.push({
      timestamp: readTimestamp(data, at),
      exactTimestamp: readExactMs(data, at),
      window: Buffer.from(windowBytes).toString("hex"),
      windowBytes,
      pane: data[header.paneStart] as number,
      key,
      values,
      fromState: count === -1,
    });
    if (header.windowCount !== 1) throw new Error("a group is in one window");
  }
  if (groups.length !== chunk.elementCount) throw new Error("elementCount is wrong");
  return groups;
}

export async function run(
  window: WindowKind,
  elements: readonly Element[],
  init: Partial<GroupByKeyTableInit> = {},
  perChunk = 7,
): Promise<Grouped[]> {
  const table = await open(window, init);
  try {
    for (const chunk of chunksOf(elements, perChunk)) await table.add(chunk);
    const groups: Grouped[] = [];
    for await (const chunk of table.groups()) groups.push(...(await decode(table, window, chunk)));
    return groups;
  } finally {
    await table.close();
  }
}

/** `${window} ${key}` → values, in order. */
export function naive(elements: readonly Element[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { windows, key, value } of elements)
    for (const window of windows) {
      const name = `${Buffer.from(window).toString("hex")} ${key}`;
      groups.set(name, [...(groups.get(name) ?? []), value]);
    }
  return groups;
}

export function byName(groups: readonly Grouped[]): Map<string, string[]> {
  const named = new Map(groups.map(({ window, key, values }): [string, string[]] => [`${window} ${key}`, values]));
  if (named.size !== groups.length) throw new Error("a group was emitted twice");
  return named;
}

export function sorted(groups: Map<string, string[]>): [string, string[]][] {
  return [...groups].sort(([left], [right]) => (left < right ? -1 : 1));
}

export const GLOBAL = [new Uint8Array()];
export const interval = (start: number, end: number): Uint8Array => encodeIntervalWindow({ start, end });

export function customWindow(maxTimestamp: number, name: string): Uint8Array {
  return Buffer.concat([encodeHeader(maxTimestamp as Timestamp, []).subarray(0, 8), lengthPrefixed(name)]);
}
