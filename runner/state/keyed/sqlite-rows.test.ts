import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { WeirError } from "../../base/errors.ts";
import { SqliteRows } from "./sqlite-rows.ts";
import type { ChangedRow, StateDelta } from "./state-delta.ts";

const directory = mkdtempSync(join(tmpdir(), "weir-sqlite-rows-test-"));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

function open(memoryBytes: number, tracksChanges = true): SqliteRows {
  return new SqliteRows({ directory, label: "test", memoryBytes, tracksChanges });
}

function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "latin1"));
}

type Full = Map<string, string>;

function contents(rows: SqliteRows): Full {
  const full: Full = new Map();
  for (const table of ["a", "b"])
    for (const [key, value] of rows.table(table).entries()) {
      if (full.has(`${table}/${key}`)) throw new Error(`row ${key} came twice`);
      full.set(`${table}/${key}`, Buffer.from(value).toString("latin1"));
    }
  return new Map([...full].sort(byKey));
}

function replay(deltas: readonly (readonly ChangedRow[])[]): Full {
  const full: Full = new Map();
  for (const delta of deltas)
    for (const { table, key, value } of delta) {
      if (value === undefined) full.delete(`${table}/${key}`);
      else full.set(`${table}/${key}`, Buffer.from(value).toString("latin1"));
    }
  return new Map([...full].sort(byKey));
}

test.serial("no file is touched as long as the rows fit into memory, and close removes the one that is", async (t) => {
  const small = open(1_000_000);
  const table = small.table("a");
  for (let index = 0; index < 1000; index++) table.put(`k${index}`, bytes("value"));
  t.is(small.relief(), undefined);
  t.is(small.filePath, undefined);
  t.deepEqual(readdirSync(directory), []);
  small.close();

  const large = open(10_000);
  const cold = large.table("a");
  for (let index = 0; index < 1000; index++) cold.put(`k${index}`, bytes(`value ${index}`));
  await large.relief();
  t.true(large.usedBytes <= 10_000);
  const path = large.filePath ?? "";
  t.true(existsSync(path));
  for (let index = 0; index < 1000; index++)
    t.is(Buffer.from(cold.get(`k${index}`) ?? []).toString(), `value ${index}`);
  t.is(cold.get("no such key"), undefined);
  t.is([...cold.entries()].length, 1000);
  large.close();
  large.close();
  t.deepEqual(readdirSync(directory), []);
});

test.serial("memory stays near the budget even if nobody waits for relief", (t) => {
  const rows = open(50_000);
  const table = rows.table("a");
  let most = 0;
  for (let index = 0; index < 5_000; index++) {
    table.put(`k${index}`, bytes("x".repeat(100)));
    most = Math.max(most, rows.usedBytes);
  }
  for (let index = 0; index < 5_000; index++) {
    table.get(`k${index}`);
    most = Math.max(most, rows.usedBytes);
  }
  t.true(most < 50_000 * 1.25 + 1_000);
  rows.close();
});

test.serial("rows that are used stay in memory, others leave", async (t) => {
  const rows = open(30_000);
  const table = rows.table("a");
  table.put("hot", bytes("hot"));
  let hot: Uint8Array | undefined;
  for (let index = 0; index < 1_000; index++) {
    table.put(`k${index}`, bytes("cold"));
    // The first eviction cannot know better.
    if (index === 500) hot = table.get("hot");
    table.get("hot");
    await rows.relief();
  }
  t.is(Buffer.from(hot ?? []).toString(), "hot");
  t.is(table.get("hot"), hot);
  rows.close();
});

test.serial("a directory that cannot be written is an error that names it", async (t) => {
  const file = join(directory, "file");
  writeFileSync(file, "");
  const rows = new SqliteRows({ directory: join(file, "in"), label: "x", memoryBytes: 1000, tracksChanges: false });
  for (let index = 0; index < 5; index++) rows.table("a").put(`k${index}`, bytes("x"));
  const error = await t.throwsAsync(async () => rows.relief(), { instanceOf: WeirError });
  t.true(error.message.includes(join(file, "in")));
  rows.close();
  rmSync(file);
});

test.serial("a delta has what changed since the last freeze, and the first one has everything", (t) => {
  const rows = open(1_000_000);
  const table = rows.table("a");
  table.put("k1", bytes("1"));
  table.put("k2", bytes("2"));
  const first = rows.freeze(1);
  table.put("k2", bytes("changed"));
  table.delete("k1");
  table.put("k3", bytes("3"));
  const second = rows.freeze(2);
  table.put("k3", bytes("later"));
  t.true(first.isBase);
  t.false(second.isBase);
  t.deepEqual(
    replay([[...first.rows()]]),
    new Map([
      ["a/k1", "1"],
      ["a/k2", "2"],
    ]),
  );
  t.deepEqual(
    [...second.rows()].map(({ key, value }) => [key, value && Buffer.from(value).toString()]),
    [
      ["k2", "changed"],
      ["k1", undefined],
      ["k3", "3"],
    ],
  );
  t.is(rows.freeze(3).rowCount, 1);
  t.is(rows.freeze(4).rowCount, 0);
  rows.close();
});

type Op =
  | { readonly op: "put"; readonly table: string; readonly key: string; readonly value: string }
  | { readonly op: "delete" | "get"; readonly table: string; readonly key: string }
  | { readonly op: "relief" | "freeze" | "mark" | "read deltas" | "freeze while marking" };

const key = fc.integer({ min: 0, max: 9 }).map((number) => `k${number}\xff`);
const table = fc.constantFrom("a", "b");
const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ op: fc.constant("put" as const), table, key, value: fc.string({ unit: "binary-ascii" }) }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("delete" as const), table, key }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constant("get" as const), table, key }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constantFrom(
        "relief" as const,
        "freeze" as const,
        "mark" as const,
        "read deltas" as const,
        "freeze while marking" as const,
      ),
    }),
  },
);

test.serial(
  "random changes under a tiny budget: reads are a Map's, and the deltas replayed are the state",
  async (t) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(op, { maxLength: 120, size: "max" }),
        fc.constantFrom(300, 3_000, 1_000_000),
        async (ops, budget) => {
          const rows = open(budget);
          const model: Full = new Map();
          const read: ChangedRow[][] = [];
          const waiting: StateDelta[] = [];
          const frozenModels: Full[] = [];
          const freeze = () => {
            waiting.push(rows.freeze(frozenModels.length));
            frozenModels.push(new Map([...model].sort(byKey)));
          };
          const readDeltas = () => {
            for (const delta of waiting.splice(0)) {
              // A base needs nothing that was before it.
              if (delta.isBase) t.deepEqual(replay([[...delta.rows()]]), frozenModels[read.length]);
              read.push([...delta.rows()]);
              delta.release();
              t.deepEqual(replay(read), frozenModels[read.length - 1]);
            }
          };
          try {
            for (const each of ops) {
              switch (each.op) {
                case "put":
                  rows.table(each.table).put(each.key, bytes(each.value));
                  model.set(`${each.table}/${each.key}`, each.value);
                  break;
                case "delete":
                  rows.table(each.table).delete(each.key);
                  model.delete(`${each.table}/${each.key}`);
                  break;
                case "get": {
                  const value = rows.table(each.table).get(each.key);
                  t.is(value && Buffer.from(value).toString("latin1"), model.get(`${each.table}/${each.key}`));
                  break;
                }
                case "relief":
                  await rows.relief();
                  t.true(rows.usedBytes <= budget);
                  break;
                case "freeze":
                  freeze();
                  break;
                case "mark":
                  t.true(await rows.markAllChanged());
                  freeze();
                  t.true(waiting.at(-1)?.isBase);
                  break;
                case "freeze while marking": {
                  const marked = rows.markAllChanged();
                  freeze();
                  await marked;
                  break;
                }
                case "read deltas":
                  readDeltas();
              }
            }
            t.deepEqual(contents(rows), new Map([...model].sort(byKey)));
            freeze();
            readDeltas();
          } finally {
            rows.close();
          }
        },
      ),
      { numRuns: 300 },
    );
    t.deepEqual(readdirSync(directory), []);
  },
);

function byKey(left: readonly [string, unknown], right: readonly [string, unknown]): number {
  return left[0] < right[0] ? -1 : left[0] > right[0] ? 1 : 0;
}

test.serial("cold rows take little more of the disk than their bytes, and are written once", async (t) => {
  const folder = join(directory, "cold");
  const rows = new SqliteRows({ directory: folder, label: "cold", memoryBytes: 100_000, tracksChanges: false });
  const count = 4_000;
  const value = new Uint8Array(1_100);
  const names = new Set<string>();
  for (let number = 0; number < count; number++) {
    rows.table("t").put(`\0\0${number}`, value);
    await rows.relief();
    if (rows.filePath !== undefined) for (const name of readdirSync(folder)) names.add(name);
  }
  t.is(names.size, 1, "a journal");
  t.true(statSync(rows.filePath ?? "").size < 1.5 * count * value.length);
  rows.close();
});
