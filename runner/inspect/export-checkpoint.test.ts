import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tableFromIPC } from "apache-arrow";
import test from "ava";
import { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import type { ManifestTable, SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import { buildExecutionGraph } from "../graph/build-execution-graph.ts";
import { describeStateTables } from "../graph/state-tables.ts";
import { SnapshotChain } from "../state/keyed/snapshot-chain.ts";
import { SqliteRows } from "../state/keyed/sqlite-rows.ts";
import { inBundle, interval, nested, open, varint } from "../worker/stream/user-state-fixture.ts";
import { CheckpointSource } from "./checkpoint-source.ts";
import { exportCheckpoint } from "./export-checkpoint.ts";

const BYTES = "beam:coder:string_utf8:v1";

function tableOf(stateId: string, kind: ManifestTable["kind"], mapKeyCoderId = ""): ManifestTable {
  const place = { vertexId: "v0", table: `user-state/t/${stateId}`, transformId: "t", transform: "Count", stateId };
  return { ...place, kind, keyCoderId: "text", windowCoderId: "interval", valueCoderId: "text", mapKeyCoderId };
}

function directory(t: { teardown: (end: () => void) => void }): string {
  const path = mkdtempSync(join(tmpdir(), "weir-export-test-"));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A checkpoint of a base and a delta, with state of every kind, and one large bag. */
async function checkpointIn(path: string): Promise<SnapshotManifest> {
  const checkpoints = new CheckpointDirectory(join(path, "job"));
  await checkpoints.open();
  const rows = new SqliteRows({ directory: path, label: "rows", memoryBytes: 1_000_000, tracksChanges: true });
  const chain = new SnapshotChain({ rows, directory: checkpoints.statePath, label: "v0.0.1" });
  const state = open({ rows, windows: "interval", pageBytes: 65_536 });
  const window = interval(0, 10_000);
  inBundle(state, (sdk) => {
    for (const key of ["ada", "bob", "eve"]) sdk.append("bagUserState", { key: nested(key), window }, nested("old"));
  });
  await chain.freeze(1).write();
  inBundle(state, (sdk) => {
    const ada = { key: nested("ada"), window };
    sdk.append("bagUserState", ada, nested("new"));
    sdk.clear("bagUserState", { key: nested("eve"), window });
    for (let count = 0; count < 500; count++)
      sdk.append("bagUserState", { key: nested("zoe"), window }, nested("x".repeat(100)));
    sdk.append("multimapUserState", { ...ada, state: "map", mapKey: nested("m") }, nested("1") + nested("2"));
    sdk.append("orderedListUserState", { ...ada, state: "list" }, varint(-5n) + nested("a") + varint(7n) + nested("b"));
  });
  rows.table("mine").put("\xff\xffrow", new Uint8Array([1, 2]));
  const files = [...(await chain.freeze(2).write())];
  rows.close();
  const coder = (name: string) => ({ urn: `beam:coder:${name}:v1`, components: [] });
  const manifest: SnapshotManifest = {
    ...{ jobId: "job", jobName: "a job", checkpointId: 2, executionAttempt: 1, graphFingerprint: "ab" },
    ...{ maxParallelism: 128, triggeredMs: 1_000, completedMs: 2_000 },
    tasks: [{ vertexId: "v0", subtaskIndex: 0, parallelism: 1, files }],
    tables: [tableOf("bag", "bag"), tableOf("map", "multimap", "text"), tableOf("list", "ordered-list")],
    coders: { text: { urn: BYTES, components: [] }, interval: coder("interval_window") },
  };
  await checkpoints.write(manifest);
  return manifest;
}

for (const [format, memoryBytes] of [
  ["file", undefined],
  ["stream", 2_000],
] as const)
  test(`state comes out as it was, decoded, also where it does not fit into memory (${format})`, async (t) => {
    const path = directory(t);
    await checkpointIn(path);
    const source = await CheckpointSource.open(path);
    t.deepEqual(source.ids, [2]);
    const manifest = await source.manifest();
    const out = join(path, "out.arrow");
    const spill = { temporaryDirectory: path, ...(memoryBytes === undefined ? {} : { memoryBytes }) };
    const count = await exportCheckpoint(manifest, { path: out, format, ...spill });
    const table = tableFromIPC(readFileSync(out));
    t.is(table.numRows, count);
    t.is(table.schema.metadata.get("weir.checkpoint_id"), "2");
    const records = table.toArray().map((row) => row.toJSON() as Record<string, unknown>);
    const decoded = (stateId: string, part: string, key: string) =>
      records
        .filter((record) => record.state_id === stateId && record.part === part && record.decoded_key === key)
        .map(({ decoded_value }) => JSON.parse(decoded_value as string) as unknown[]);
    t.deepEqual(decoded("bag", "elements", "ada"), [["old", "new"]]);
    t.deepEqual(decoded("bag", "elements", "bob"), [["old"]]);
    t.deepEqual(decoded("bag", "elements", "eve"), []);
    // In chunks, each of them whole elements.
    const chunks = decoded("bag", "elements", "zoe");
    t.true(chunks.length > 1);
    t.is(chunks.flat().length, 500);
    t.true(chunks.flat().every((value) => value === "x".repeat(100)));
    t.deepEqual(decoded("map", "map-values", "ada"), [["1", "2"]]);
    t.is(records.find(({ part }) => part === "map-values")?.decoded_map_key, "m");
    t.deepEqual(decoded("list", "entries", "ada"), [
      [
        [-5, "a"],
        [7, "b"],
      ],
    ]);
    const ada = records.find((record) => record.state_id === "bag" && record.decoded_key === "ada");
    t.is(ada?.vertex, "v0");
    t.is(ada?.subtask, 0);
    t.is(ada?.transform, "Count");
    t.is(ada?.decoded_window, "[1970-01-01T00:00:00.000Z, 1970-01-01T00:00:10.000Z)");
    t.deepEqual(Buffer.from(ada?.value as Uint8Array).toString(), "\x03old\x03new");
    t.deepEqual(Buffer.from(ada?.key as Uint8Array).toString(), "\x03ada");
    const mine = records.find((record) => record.table === "mine");
    t.is(mine?.key_group, null);
    t.is(mine?.decoded_value, null);
    t.deepEqual(mine?.value, new Uint8Array([1, 2]));
    t.deepEqual(
      readdirSync(path).filter((name) => name.endsWith(".sqlite") || name.endsWith(".part")),
      [],
    );
  });

test("a checkpoint without rows is an Arrow file without records", async (t) => {
  const path = directory(t);
  const manifest = { ...(await checkpointIn(path)), tasks: [] };
  const out = join(path, "empty.arrow");
  t.is(await exportCheckpoint(manifest, { path: out, format: "file", temporaryDirectory: path }), 0);
  t.is(tableFromIPC(readFileSync(out)).numRows, 0);
});

test("a manifest says what each stage keeps, and has no pickled code in it", (t) => {
  const proto = readFileSync(new URL("../../test/pipelines/stateful.pb", import.meta.url));
  const { tables, coders } = describeStateTables(buildExecutionGraph(proto));
  t.deepEqual(
    tables.map(({ kind, stateId, transform }) => [transform, kind, stateId]),
    [
      ["Count", "combining", "count"],
      ["Count", "bag", "seen"],
      ["Count", "timers", "ts-clock"],
      ["Count", "timers", "ts-flush"],
    ],
  );
  const [count, seen] = tables;
  t.is(coders[count?.keyCoderId ?? ""]?.urn, "beam:coder:length_prefix:v1");
  t.is(coders[seen?.valueCoderId ?? ""]?.urn, "beam:coder:string_utf8:v1");
  t.is(coders[seen?.windowCoderId ?? ""]?.urn, "beam:coder:global_window:v1");
  t.true(Object.values(coders).every(({ payload }) => payload === undefined));
});

test("where there is no checkpoint, or those of several jobs, the message says what to do", async (t) => {
  const path = directory(t);
  await t.throwsAsync(CheckpointSource.open(path), { message: /no complete checkpoint in .*--data-dir/ });
  await t.throwsAsync(CheckpointSource.open(join(path, "gone")), { message: /Cannot read the directory .*gone/ });
  for (const job of ["one", "two"]) {
    const checkpoints = new CheckpointDirectory(join(path, "checkpoints", job));
    await checkpoints.open();
    await checkpoints.write({ ...(await checkpointIn(path)), checkpointId: 3 });
  }
  rmSync(join(path, "job"), { recursive: true });
  await t.throwsAsync(CheckpointSource.open(path), { message: /several jobs .*one, two.*--job/ });
  const source = await CheckpointSource.open(path, "two");
  t.is((await source.manifest()).checkpointId, 3);
  await t.throwsAsync(source.manifest(9), { message: /no complete checkpoint 9 .* there are: 3/ });
});
