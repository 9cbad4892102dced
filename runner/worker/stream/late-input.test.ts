import test from "ava";
import type { Chunk } from "../../base/chunk.ts";
import { encodeIntervalWindow } from "../../coders/interval-window.ts";
import { encodeHeader } from "../../coders/windowed-value.ts";
import type { CoderSpec, WindowingSpec } from "../../graph/execution-graph.ts";
import { MAX_TIMESTAMP, MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { LateInput } from "./late-input.ts";

const coder = (name: string, ...components: string[]): CoderSpec => ({
  urn: `beam:coder:${name}:v1`,
  payload: new Uint8Array(),
  components,
});
const coders = {
  bytes: coder("bytes"),
  interval: coder("interval_window"),
  global: coder("global_window"),
  input: coder("windowed_value", "bytes", "interval"),
};
const windowing = (windowCoderId: string, allowedLatenessMs: number) =>
  ({ windowCoderId, allowedLatenessMs }) as WindowingSpec;

/** One byte in windows [start, start + 10). */
function element(value: number, ...starts: readonly number[]): Uint8Array {
  const windows = starts.map((start) => encodeIntervalWindow({ start: BigInt(start), end: BigInt(start + 10) }));
  return Buffer.concat([encodeHeader(1 as Timestamp, windows), Uint8Array.of(1, value)]);
}

function chunkOf(...elements: readonly Uint8Array[]): Chunk {
  return { data: Buffer.concat(elements), elementCount: elements.length };
}

test("elements are dropped when the watermark has passed their window's end and the lateness, not before", (t) => {
  let dropped = 0;
  const late = LateInput.of(coders, "input", windowing("interval", 5), (count) => (dropped += count));
  const chunk = chunkOf(element(1, 0), element(2, 10));
  t.is(late?.keep(chunk, MIN_TIMESTAMP), chunk);
  // The window's maximum timestamp is 9.
  t.deepEqual(late?.keep(chunk, 14 as Timestamp), chunk);
  t.is(dropped, 0);
  t.deepEqual(late?.keep(chunk, 15 as Timestamp), chunkOf(element(2, 10)));
  t.is(dropped, 1);
  t.is(late?.keep(chunk, MAX_TIMESTAMP), undefined);
  t.is(dropped, 3);
});

test("an element keeps those of its windows that are not late", (t) => {
  let dropped = 0;
  const late = LateInput.of(coders, "input", windowing("interval", 0), (count) => (dropped += count));
  t.deepEqual(late?.keep(chunkOf(element(7, 0, 10)), 12 as Timestamp), chunkOf(element(7, 10)));
  t.is(dropped, 1);
});

test("nothing is late in the global window", (t) => {
  t.is(
    LateInput.of(coders, "input", windowing("global", 0), () => t.fail()),
    undefined,
  );
});
