// The files of a chain over many checkpoints: how many they are, what they cost, and what they restore to.
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { WeirError } from "../../base/errors.ts";
import { DeltaRun } from "./delta-run.ts";
import { restoreRows } from "./restore-rows.ts";
import { SnapshotChain } from "./snapshot-chain.ts";
import { SqliteRows } from "./sqlite-rows.ts";

const directory = mkdtempSync(join(tmpdir(), "weir-chain-"));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

const ALL = { firstKeyGroup: 0, endKeyGroup: 65_535, takesUnkeyed: true };

function open(label: string, memoryBytes = 1 << 20): SqliteRows {
  return new SqliteRows({ directory, label, memoryBytes, tracksChanges: true });
}

function contents(rows: SqliteRows): Record<string, string> {
  const entries = [...rows.table("t").entries()].map(([key, value]) => [key, Buffer.from(value).toString("latin1")]);
  return Object.fromEntries(entries) as Record<string, string>;
}

const keyOf = (number: number) => `\0\0${number}`;

test.serial(
  "a chain with a hundredth changed each time stays short, and writes less than three hundredths",
  async (t) => {
    const rows = open("cost", 64 << 20);
    const rowCount = 2_000;
    // What cannot be compressed.
    const value = (name: string) => createHash("shake256", { outputLength: 1_000 }).update(name).digest();
    for (let number = 0; number < rowCount; number++) rows.table("t").put(keyOf(number), value(`${number}`));
    const chain = new SnapshotChain({ rows, directory, label: "cost", smallBytes: 0 });
    const [base] = await chain.freeze(0).write();
    const whole = base?.byteLength ?? 0;
    let written = 0;
    let most = 0;
    const checkpoints = 400;
    for (let id = 1; id <= checkpoints; id++) {
      for (let index = 0; index < rowCount / 100; index++)
        rows.table("t").put(keyOf((id * 7919 + index * 104_729) % rowCount), value(`${id}-${index}`));
      const files = await chain.freeze(id).write();
      await chain.settled();
      written += files.at(-1)?.byteLength ?? 0;
      most = Math.max(most, files.length);
      if (id % 50 > 0) continue;
      const restored = open("cost-restored", 64 << 20);
      await restoreRows(restored, files, { ...ALL, asChanges: false });
      t.deepEqual(contents(restored), contents(rows));
      restored.close();
    }
    t.log(`${((written / whole / checkpoints) * 100).toFixed(2)} % a checkpoint, ${most} files at most`);
    t.true(written / whole / checkpoints < 0.03);
    t.true(most <= 49);
    rows.close();
  },
);

test.serial(
  "property: what is folded restores to what it was, rows that are gone and writes that failed included",
  async (t) => {
    const change = fc.record({ key: fc.nat(60), isGone: fc.boolean() });
    const checkpoint = fc.record({
      changes: fc.array(change, { maxLength: 6 }),
      fate: fc.constantFrom("written", "written", "written", "failed", "late"),
    });
    let runs = 0;
    let foldedCount = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(checkpoint, { minLength: 10, maxLength: 40 }),
        fc.constantFrom(4_000, 1_000_000),
        async (given, memoryBytes) => {
          const label = `fold-${runs++}`;
          const rows = open(label, memoryBytes);
          for (let number = 0; number <= 60; number++) rows.table("t").put(keyOf(number), Buffer.alloc(200, number));
          const chain = new SnapshotChain({ rows, directory, label, maxRun: 3, smallBytes: 0 });
          await chain.freeze(0).write();
          await chain.settled();
          let late: ReturnType<SnapshotChain["freeze"]>[] = [];
          let length = 1;
          for (const [index, { changes, fate }] of given.entries()) {
            const id = index + 1;
            for (const { key, isGone } of changes)
              if (isGone) rows.table("t").delete(keyOf(key));
              else rows.table("t").put(keyOf(key), Buffer.from(`${id}`));
            await rows.relief();
            const expected = contents(rows);
            const pending = chain.freeze(id);
            rows.table("t").put(keyOf(0), Buffer.from("later"));
            if (fate === "late") {
              late.push(pending);
              continue;
            }
            if (fate === "failed") {
              for (const kind of ["base", "delta"])
                mkdirSync(join(directory, `${label}-${id}.${kind}.part`, "in the way"), { recursive: true });
              await Promise.all(late.map((each) => each.write()));
              await t.throwsAsync(() => pending.write(), { instanceOf: WeirError });
              late = [];
              continue;
            }
            const all = await Promise.all([...late, pending].map((each) => each.write()));
            late = [];
            const files = all.at(-1) ?? [];
            if (files.length > 1 && files.length <= length) foldedCount++;
            ({ length } = files);
            await chain.settled();
            t.true(files.length <= 12);
            const restored = open(`${label}-restored`, memoryBytes);
            await restoreRows(restored, files, { ...ALL, asChanges: false });
            t.deepEqual(contents(restored), expected);
            restored.close();
          }
          rows.close();
        },
      ),
      { numRuns: 30 },
    );
    t.true(foldedCount > 10, `${foldedCount} were folded`);
  },
);

test("a run of more rows than can be remembered is not folded, and the one after it is", (t) => {
  const run = new DeltaRun(3);
  const rows = (count: number) =>
    Array.from({ length: count }, (_, key) => ({ table: "t", key: `${key}`, value: undefined }));
  for (const each of [3, 3]) t.is([...run.noting(rows(each))].length, each);
  t.is(run.keys?.get("t")?.size, 3);
  t.is([...run.noting(rows(4))].length, 4);
  t.is(run.keys, undefined);
  run.clear();
  t.is(run.keys?.size, 0);
});
