// A side input that is larger than the memory of its rows: it is read from the disk, page by page and key by key.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { SqliteRows } from "../../../state/keyed/sqlite-rows.ts";
import { MAX_TIMESTAMP } from "../../../time/timestamp.ts";
import { chunkOf, MULTIMAP, openSideInputs, readAll, request, type Shape, textsIn } from "./side-input-fixture.ts";

const GLOBAL = new Uint8Array(0);
const MEMORY_BYTES = 1 << 20;
const CHUNKS = 40;
const PER_CHUNK = 2_000;
const KEYS = 500;

const directory = mkdtempSync(join(tmpdir(), "weir-side-input-"));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

const textOf = (chunk: number, index: number) => `${chunk}.${index} `.padEnd(100, "x");
const keyOf = (index: number) => `k${index % KEYS}`;

async function filled(label: string, shape: Shape) {
  const rows = new SqliteRows({ directory, label, memoryBytes: MEMORY_BYTES, tracksChanges: false });
  const sideInputs = openSideInputs(shape, rows.table("side-inputs"));
  for (let chunk = 0; chunk < CHUNKS; chunk++) {
    const texts = Array.from({ length: PER_CHUNK }, (_, index) => textOf(chunk, index));
    const isPair = shape.element === "pair";
    const value = (text: string, index: number) => (isPair ? ([keyOf(index), text] as const) : text);
    sideInputs.add("d1", chunkOf(...texts.map((text, index) => ({ value: value(text, index) }))));
    await rows.relief();
    assertBounded(rows);
  }
  sideInputs.advance("d1", MAX_TIMESTAMP);
  return { rows, sideInputs };
}

/** 8 MB of values, and a chunk that has just come. */
function assertBounded(rows: SqliteRows): void {
  if (rows.usedBytes > 1.3 * MEMORY_BYTES) throw new Error(`${rows.usedBytes} bytes of rows are in memory`);
}

test.serial("all of it comes back in its order, in pages", async (t) => {
  const { rows, sideInputs } = await filled("iterable", {});
  const { data, pages } = readAll(sideInputs, request("iterableSideInput", GLOBAL));
  const expected = Array.from({ length: CHUNKS }, (_, chunk) =>
    Array.from({ length: PER_CHUNK }, (_unused, index) => textOf(chunk, index)),
  ).flat();
  t.deepEqual(textsIn(data), expected);
  t.true(pages >= 8);
  t.not(rows.filePath, undefined, "most of it was on disk");
  rows.close();
});

test.serial("each key has its values in their order, after a restore too", async (t) => {
  const shape: Shape = { element: "pair", accessPatternUrn: MULTIMAP };
  const { rows, sideInputs } = await filled("multimap", shape);
  const restored = openSideInputs(shape, rows.table("side-inputs"));
  for (const each of [sideInputs, restored])
    for (const key of [0, 7, KEYS - 1]) {
      const { data } = readAll(each, request("multimapSideInput", GLOBAL, keyOf(key)));
      const expected = Array.from({ length: CHUNKS }, (_, chunk) =>
        Array.from({ length: PER_CHUNK / KEYS }, (_unused, turn) => textOf(chunk, key + turn * KEYS)),
      ).flat();
      t.deepEqual(textsIn(data), expected);
    }
  const { data } = readAll(sideInputs, request("multimapKeysSideInput", GLOBAL));
  t.deepEqual(
    textsIn(data),
    Array.from({ length: KEYS }, (_, index) => keyOf(index)),
  );
  rows.close();
});
