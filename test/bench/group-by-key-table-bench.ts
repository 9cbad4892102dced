/**
 * What grouping costs, without an SDK or a network: CPU seconds, wall seconds and peak memory of adding encoded
 * elements to a GroupByKeyTable and reading its groups.
 *
 *   node test/bench/group-by-key-table-bench.ts [elements=1000000] [keys=100000] [value bytes=72] [budget MiB=128]
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeHeader } from "../../runner/coders/windowed-value.ts";
import type { CoderSpec, CoderTable } from "../../runner/graph/execution-graph.ts";
import { GroupByKeyTable } from "../../runner/state/grouping/group-by-key-table.ts";
import type { Timestamp } from "../../runner/time/timestamp.ts";

const [elements = 1_000_000, keys = 100_000, valueBytes = 72, budgetMib = 128] = process.argv.slice(2).map(Number);

function coder(urn: string, ...components: string[]): CoderSpec {
  return { urn: `beam:coder:${urn}:v1`, payload: new Uint8Array(), components };
}

const coders: CoderTable = {
  bytes: coder("bytes"),
  kv: coder("kv", "bytes", "bytes"),
  values: coder("state_backed_iterable", "bytes"),
  grouped: coder("kv", "bytes", "values"),
  gw: coder("global_window"),
  in: coder("windowed_value", "kv", "gw"),
  out: coder("windowed_value", "grouped", "gw"),
};

const HEADER = encodeHeader(0 as Timestamp, [new Uint8Array()]);
const KEY_BYTES = 14;
const ELEMENT_BYTES = HEADER.length + 1 + KEY_BYTES + 1 + valueBytes;
const MIB = 1024 * 1024;
let state = 12345;

/** A chunk of whole elements with random keys, in `into`. */
function fill(into: Buffer, count: number): Buffer {
  let at = 0;
  for (let index = 0; index < count; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const key = String(Math.floor((state / 2 ** 32) * keys)).padStart(KEY_BYTES, "0");
    into.set(HEADER, at);
    at += HEADER.length;
    into[at++] = KEY_BYTES;
    at += into.write(key, at, "latin1");
    into[at++] = valueBytes;
    into.fill(118, at, at + valueBytes);
    at += valueBytes;
  }
  return into.subarray(0, at);
}

const spillDirectory = await mkdtemp(join(tmpdir(), "weir-bench-"));
const table = await GroupByKeyTable.open({
  coders,
  inputCoderId: "in",
  outputCoderId: "out",
  windowing: {
    windowFnUrn: "beam:window_fn:global_windows:v1",
    windowFnPayload: new Uint8Array(),
    windowCoderId: "gw",
    merging: false,
    timestampCombiner: "END_OF_WINDOW",
    trigger: new Uint8Array(),
    accumulationMode: "DISCARDING",
    allowedLatenessMs: 0,
    closingBehavior: "EMIT_IF_NONEMPTY",
    asksTriggerFor: "ELEMENTS_TOGETHER",
    onTimeBehavior: "FIRE_ALWAYS",
  },
  stateBacked: true,
  memoryBudgetBytes: budgetMib * MIB,
  stateBackedIterableBytes: 48 * 1024,
  pageBytes: MIB,
  chunkBytes: MIB,
  spillDirectory,
});

const perChunk = Math.floor(MIB / ELEMENT_BYTES);
const chunk = Buffer.alloc(perChunk * ELEMENT_BYTES);
let addCpuMs = 0;
const started = performance.now();
for (let left = elements; left > 0; left -= perChunk) {
  const elementCount = Math.min(left, perChunk);
  const data = fill(chunk, elementCount);
  const before = process.cpuUsage();
  await table.add({ data, elementCount });
  const { user, system } = process.cpuUsage(before);
  addCpuMs += (user + system) / 1000;
}
const before = process.cpuUsage();
let groups = 0;
let outputBytes = 0;
const tokens: Uint8Array[] = [];
for await (const { data, elementCount } of table.groups()) {
  groups += elementCount;
  outputBytes += data.length;
  if (data.length < 4096) tokens.push(Uint8Array.of(0, 0, 0, tokens.length));
}
const { user, system } = process.cpuUsage(before);
const report = {
  elements,
  inputMb: Math.round((elements * ELEMENT_BYTES) / 1e6),
  groups,
  outputMb: Math.round(outputBytes / 1e6),
  addCpuS: (addCpuMs / 1000).toFixed(2),
  groupsCpuS: ((user + system) / 1e6).toFixed(2),
  wallS: ((performance.now() - started) / 1000).toFixed(1),
  peakRssMb: Math.round(process.resourceUsage().maxRSS / 1024),
};
console.log(JSON.stringify(report));
await table.close();
await rm(spillDirectory, { recursive: true });
