import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { WeirError } from "../../base/errors.ts";
import { keyGroupPrefix, NO_KEY_GROUP } from "../state-rows.ts";
import { restoreRows } from "./restore-rows.ts";
import { SnapshotChain } from "./snapshot-chain.ts";
import { readSnapshotFile, readSnapshotHeader, type SnapshotFileInfo, writeSnapshotFile } from "./snapshot-file.ts";
import { SqliteRows } from "./sqlite-rows.ts";
import type { ChangedRow } from "./state-delta.ts";

const directory = mkdtempSync(join(tmpdir(), "weir-snapshot-test-"));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));
let fileCount = 0;
const newPath = () => join(directory, `file-${fileCount++}`);

function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "latin1"));
}

async function readAll(path: string, expected?: SnapshotFileInfo): Promise<ChangedRow[]> {
  const rows: ChangedRow[] = [];
  for await (const block of readSnapshotFile(path, expected)) rows.push(...block);
  return rows;
}

function open(memoryBytes = 1_000_000): SqliteRows {
  return new SqliteRows({ directory, label: "rows", memoryBytes, tracksChanges: true });
}

function contents(rows: SqliteRows, tables: readonly string[] = ["t"]): Record<string, string> {
  const entries = tables.flatMap((table) =>
    [...rows.table(table).entries()].map(([key, value]) => [`${table}/${key}`, Buffer.from(value).toString()] as const),
  );
  return Object.fromEntries(entries.sort(([left], [right]) => (left < right ? -1 : left > right ? 1 : 0)));
}

test.serial("rows come back as they were, and the file is what its writer says", async (t) => {
  const row = fc.record({
    table: fc.constantFrom("user-state/Count/n", "timers", "größe"),
    key: fc.uint8Array({ maxLength: 20 }).map((key) => Buffer.from(key).toString("latin1")),
    value: fc.option(fc.uint8Array({ maxLength: 50 }), { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(row),
      fc.constantFrom("delta", "base", "in-flight"),
      fc.maxSafeNat(),
      async (rows, kind, checkpointId) => {
        const path = newPath();
        const info = await writeSnapshotFile(path, { kind, checkpointId }, rows);
        t.deepEqual(await readAll(path, info), rows);
        t.deepEqual(await readSnapshotHeader(path), { kind, checkpointId });
        const file = readFileSync(path);
        t.is(info.byteLength, file.length);
        t.is(info.sha256, createHash("sha256").update(file).digest("hex"));
        rmSync(path);
      },
    ),
    { numRuns: 50 },
  );
  t.deepEqual(
    readdirSync(directory).filter((name) => name.endsWith(".part")),
    [],
  );
});

test.serial("many blocks and a row larger than a block are read, and repetitive ones take little room", async (t) => {
  const path = newPath();
  const rows = Array.from({ length: 30_000 }, (_, index) => ({
    table: "t",
    key: `key ${index}`,
    value: bytes("value"),
  }));
  rows.push({ table: "other", key: "large", value: new Uint8Array(3_000_000).fill(7) });
  const info = await writeSnapshotFile(path, { kind: "base", checkpointId: 7 }, rows);
  t.true(info.byteLength < 300_000);
  const read = await readAll(path, info);
  t.is(read.length, rows.length);
  const same = read.every(({ table, key, value }, index) => {
    const row = rows[index];
    return table === row?.table && key === row.key && Buffer.compare(value ?? bytes(""), row.value) === 0;
  });
  t.true(same);
});

test.serial("every cut and every changed byte of a file is an error that names the file", async (t) => {
  const path = newPath();
  const rows = [
    { table: "t", key: "k", value: bytes("value ".repeat(30)) },
    { table: "t", key: "gone", value: undefined },
  ];
  await writeSnapshotFile(path, { kind: "delta", checkpointId: 3 }, rows);
  const good = readFileSync(path);
  const bad = newPath();
  const refused = async (content: Buffer, what: string) => {
    writeFileSync(bad, content);
    const error = await t.throwsAsync(() => readAll(bad), { instanceOf: WeirError }, what);
    t.true(error?.message.includes(bad), what);
  };
  for (let length = 0; length < good.length; length++) await refused(good.subarray(0, length), `cut at ${length}`);
  for (let at = 0; at < good.length; at++) {
    const content = Buffer.from(good);
    content[at] = (content[at] as number) ^ 0x10;
    await refused(content, `changed at ${at}`);
  }
  await refused(Buffer.concat([good, Buffer.from([0])]), "one byte more");
  await t.throwsAsync(() => readAll(join(directory, "no such file")), { message: /no such file/ });
});

test.serial("a whole file that is another one than expected is refused", async (t) => {
  const path = newPath();
  const row = { table: "t", key: "k", value: bytes("1") };
  const info = await writeSnapshotFile(path, { kind: "base", checkpointId: 1 }, [row]);
  await writeSnapshotFile(path, { kind: "base", checkpointId: 1 }, [{ ...row, value: bytes("2") }]);
  await t.throwsAsync(() => readAll(path, info), { instanceOf: WeirError, message: /SHA-256/ });
  await t.throwsAsync(() => readAll(path, { ...info, byteLength: 5 }), { message: /bytes, not 5/ });
});

test.serial("a folder that cannot be made is an error that names the file, and nothing is left", async (t) => {
  const file = newPath();
  writeFileSync(file, "");
  const path = join(file, "in", "it");
  const error = await t.throwsAsync(() => writeSnapshotFile(path, { kind: "base", checkpointId: 1 }, []), {
    instanceOf: WeirError,
  });
  t.true(error?.message.includes(path));
});

test.serial(
  "a restore takes the rows of its key groups, and rows without a key only if it asks for them",
  async (t) => {
    const rows = open();
    for (let group = 0; group < 8; group++) rows.table("t").put(`${keyGroupPrefix(group)}k`, bytes(`${group}`));
    rows.table("t").put(`${NO_KEY_GROUP}position`, bytes("p"));
    const chain = new SnapshotChain({ rows, directory, label: "filter" });
    const files = await chain.freeze(1).write();
    rows.close();
    for (const [first, end, takesUnkeyed] of [
      [0, 3, true],
      [3, 8, false],
    ] as const) {
      const part = open();
      const count = await restoreRows(part, files, {
        firstKeyGroup: first,
        endKeyGroup: end,
        takesUnkeyed,
        asChanges: true,
      });
      t.is(count, end - first + (takesUnkeyed ? 1 : 0));
      const values = Object.values(contents(part)).sort();
      const groups = Array.from({ length: end - first }, (_, index) => `${first + index}`);
      t.deepEqual(values, takesUnkeyed ? [...groups, "p"] : groups);
      const delta = part.freeze(2);
      t.true(delta.isBase);
      t.is(delta.rowCount, count);
      part.close();
    }
  },
);

const ALL = { firstKeyGroup: 0, endKeyGroup: 65_535, takesUnkeyed: true };

test.serial(
  "whatever checkpoint a chain is restored from, the state is what it was then, also where writes failed",
  async (t) => {
    const change = fc.record({
      key: fc.integer({ min: 0, max: 30 }).map((number) => `\0\0${number}`),
      value: fc.option(fc.string({ unit: "binary-ascii" }), { nil: undefined }),
    });
    const checkpoints = fc.array(fc.record({ changes: fc.array(change, { maxLength: 30 }), fails: fc.boolean() }), {
      minLength: 1,
      maxLength: 20,
    });
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(
        checkpoints,
        fc.constantFrom(1_500, 1_000_000),
        fc.constantFrom(0, 1_000_000),
        async (given, budget, smallBytes) => {
          let label = `chain-${runs++}`;
          let rows = open(budget);
          let chain = new SnapshotChain({ rows, directory, label, maxRun: 3, smallBytes });
          await chain.settled();
          const blocker = (id: number) =>
            ["base", "delta"].map((kind) => join(directory, `${label}-${id}.${kind}.part`, "in the way"));
          for (const [id, { changes, fails }] of given.entries()) {
            for (const { key, value } of changes) {
              if (value === undefined) rows.table("t").delete(key);
              else rows.table("t").put(key, bytes(value));
            }
            await rows.relief();
            const expected = contents(rows);
            const pending = chain.freeze(id);
            rows.table("t").put("\0\0 later", bytes("later"));
            if (fails) {
              for (const path of blocker(id)) mkdirSync(path, { recursive: true });
              await t.throwsAsync(() => pending.write(), { instanceOf: WeirError });
              continue;
            }
            const files = await pending.write();
            await chain.settled();
            t.true(files.length <= 10);
            const restored = open(budget);
            await restoreRows(restored, files, { ...ALL, asChanges: false });
            t.deepEqual(contents(restored), expected);
            // Every other time the restored one goes on, with the same files.
            if (id % 2 === 0) restored.close();
            else {
              rows.close();
              rows = restored;
              label = `${label}.${id}`;
              chain = new SnapshotChain({ rows, directory, label, maxRun: 3, smallBytes, restoredFrom: files });
              await chain.settled();
            }
          }
          rows.close();
        },
      ),
      { numRuns: 40 },
    );
  },
);

test.serial("two snapshots may be frozen before the first one is written", async (t) => {
  const rows = open();
  const chain = new SnapshotChain({ rows, directory, label: "two" });
  rows.table("t").put("\0\0k", bytes("1"));
  const first = chain.freeze(1);
  rows.table("t").put("\0\0k", bytes("2"));
  const second = chain.freeze(2);
  rows.table("t").put("\0\0k", bytes("3"));
  const [one, two] = await Promise.all([first.write(), second.write()]);
  for (const [files, value] of [
    [one, "1"],
    [two, "2"],
  ] as const) {
    const restored = open();
    await restoreRows(restored, files, { ...ALL, asChanges: false });
    t.deepEqual(contents(restored), { "t/\0\0k": value });
    restored.close();
  }
  t.is(two.length, 2);
  rows.close();
});
