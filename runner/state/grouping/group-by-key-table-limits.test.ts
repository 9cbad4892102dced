import { rm } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { WeirError } from "../../base/errors.ts";
import {
  windowing,
  open,
  encode,
  chunksOf,
  run,
  naive,
  byName,
  sorted,
  GLOBAL,
  spill,
  removeSpill,
  customWindow,
} from "./grouping-fixture.ts";

test.after.always(removeSpill);

test("thousands of keys are found again, in memory and where partitions are distributed twice", async (t) => {
  const elements = Array.from({ length: 20_000 }, (_, index) => ({
    timestamp: 0,
    windows: GLOBAL,
    key: `key-${(index * 7919) % 9000}`,
    value: `${index}`,
  }));
  const expected = sorted(naive(elements));
  for (const memoryBudgetBytes of [64 << 20, 4 << 10]) {
    const groups = await run("global", elements, { memoryBudgetBytes, chunkBytes: 1 << 16 }, 1000);
    t.deepEqual(sorted(byName(groups)), expected);
  }
});

test("values larger than any block or page survive the disk, whole or through state", async (t) => {
  const elements = Array.from({ length: 4 }, (_, index) => ({
    timestamp: 0,
    windows: GLOBAL,
    key: `key-${index % 2}`,
    value: String(index).repeat(1_500_000),
  }));
  for (const stateBacked of [true, false]) {
    const groups = await run("global", elements, { memoryBudgetBytes: 1 << 20, stateBacked });
    t.deepEqual(
      groups.map(({ fromState }) => fromState),
      [stateBacked, stateBacked],
    );
    t.true(new Map(sorted(byName(groups))).size === 2);
    for (const { key, values: texts } of groups)
      t.true(
        texts.join() ===
          elements
            .filter((each) => each.key === key)
            .map(({ value }) => value)
            .join(),
      );
  }
});

test("a group is read through state for its values' bytes, not for those of its key in every record", async (t) => {
  const key = "k".repeat(2000);
  const elements = Array.from({ length: 1000 }, (_, index) => ({
    timestamp: 0,
    windows: GLOBAL,
    key,
    value: `${index}`,
  }));
  for (const memoryBudgetBytes of [64 << 10, 64 << 20]) {
    const groups = await run("global", elements, { memoryBudgetBytes });
    t.deepEqual(
      groups.map(({ fromState, values }) => [fromState, values.length]),
      [[false, 1000]],
    );
    t.deepEqual(sorted(byName(groups)), sorted(naive(elements)));
  }
});

test("a WindowFn that merges windows that it was not asked about is refused", async (t) => {
  const elements = [1, 2].map((index) => ({
    timestamp: 0,
    windows: [customWindow(index, "w")],
    key: "k",
    value: "v",
  }));
  const mergeWindows = (): Promise<{ merged: Uint8Array; consumed: Uint8Array[] }[]> =>
    Promise.resolve([{ merged: customWindow(9, "m"), consumed: [customWindow(3, "other")] }]);
  const custom = windowing("custom", { merging: true, windowFnUrn: "my:windows" });
  await t.throwsAsync(run("custom", elements, { windowing: custom, mergeWindows }), { message: /WindowFn merged/ });
});

test("chunks are about as large as asked for, and small output takes a small one", async (t) => {
  const elements = Array.from({ length: 1000 }, (_, index) => ({
    timestamp: 0,
    windows: GLOBAL,
    key: `${index}`,
    value: "v".repeat(100),
  }));
  const table = await open("global", { chunkBytes: 10_000 });
  for (const chunk of chunksOf(elements, 50)) await table.add(chunk);
  const sizes: number[] = [];
  for await (const chunk of table.groups()) {
    sizes.push(chunk.data.length);
    t.true(chunk.data.buffer.byteLength <= 10_000);
  }
  t.true(sizes.slice(0, -1).every((size) => size > 9_000));
  await table.close();
  const small = await open("global", { chunkBytes: 1 << 20 });
  for (const chunk of chunksOf(elements.slice(0, 3))) await small.add(chunk);
  for await (const chunk of small.groups()) t.true(chunk.data.buffer.byteLength < 1000);
  await small.close();
});

test("malformed input and a spill directory that is none are errors for people", async (t) => {
  const table = await open("global");
  const bytes = encode({ timestamp: 0, windows: GLOBAL, key: "k", value: "v" });
  const error = t.throws(() => table.add({ data: bytes.subarray(0, bytes.length - 1), elementCount: 1 }), {
    instanceOf: WeirError,
  });
  t.is(error.code, "DATA_LOSS");
  await table.close();
  const nowhere = join(spill, "file", "below");
  const { writeFile } = await import("node:fs/promises");
  await writeFile(join(spill, "file"), "");
  const spilling = await open("global", { memoryBudgetBytes: 1, spillDirectory: nowhere });
  await t.throwsAsync(async () => spilling.add({ data: bytes, elementCount: 1 }), { message: new RegExp(nowhere) });
  await spilling.close();
  await rm(join(spill, "file"));
});
