// What the tools say of a checkpoint whose chain was folded: files that stand for several, rows that were marked again.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tableFromIPC } from "apache-arrow";
import test from "ava";
import { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import { SnapshotChain } from "../state/keyed/snapshot-chain.ts";
import { SqliteRows } from "../state/keyed/sqlite-rows.ts";
import { verifyCheckpoints } from "./checkpoint-reports.ts";
import { CheckpointSource } from "./checkpoint-source.ts";
import { exportCheckpoint } from "./export-checkpoint.ts";

const CHECKPOINTS = 24;

test("a folded chain is verified whole, and exported row by row as it is; a wrong byte in a folded file is found", async (t) => {
  const path = mkdtempSync(join(tmpdir(), "weir-folded-"));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  const checkpoints = new CheckpointDirectory(join(path, "job"));
  await checkpoints.open();
  // Most rows are cold.
  const rows = new SqliteRows({ directory: path, label: "rows", memoryBytes: 20_000, tracksChanges: true });
  const chain = new SnapshotChain({
    rows,
    directory: checkpoints.statePath,
    label: "v0.0.1",
    maxRun: 3,
    smallBytes: 0,
  });
  const table = rows.table("mine");
  const wanted = new Map<string, string>();
  const put = (number: number, text: string) => {
    table.put(`\0\0${number}`, Buffer.from(text));
    wanted.set(`${number}`, text);
  };
  for (let number = 0; number < 400; number++) put(number, `first ${number}`);
  let folded = 0;
  let names: string[] = [];
  let manifest: Parameters<CheckpointDirectory["write"]>[0] | undefined;
  for (let checkpointId = 1; checkpointId <= CHECKPOINTS; checkpointId++) {
    for (let index = 0; index < 5; index++) put((checkpointId * 37 + index * 11) % 400, `${checkpointId}.${index}`);
    if (checkpointId % 4 === 0) {
      table.delete(`\0\0${checkpointId}`);
      wanted.delete(`${checkpointId}`);
    }
    await rows.relief();
    const files = await chain.freeze(checkpointId).write();
    await chain.settled();
    if (files.length <= names.length) folded++;
    names = files.map((file) => file.path);
    manifest = {
      ...{ jobId: "job", jobName: "a job", checkpointId, executionAttempt: 1, graphFingerprint: "ab" },
      ...{ maxParallelism: 128, triggeredMs: 1_000, completedMs: 2_000 },
      tasks: [{ vertexId: "v0", subtaskIndex: 0, parallelism: 1, files: [...files] }],
    };
  }
  rows.close();
  t.true(folded > 3);
  t.true(names.length > 2);
  if (manifest === undefined) throw new Error("there was no checkpoint");
  await checkpoints.write(manifest);

  const verify = async () => {
    const source = await CheckpointSource.open(path);
    const said: string[] = [];
    const { damaged } = await verifyCheckpoints(source, source.ids, path, (line) => void said.push(line));
    return { damaged, text: said.join("\n") };
  };
  t.is((await verify()).damaged, 0);
  const out = join(path, "out.arrow");
  const source = await CheckpointSource.open(path);
  const count = await exportCheckpoint(await source.manifest(), {
    path: out,
    format: "file",
    temporaryDirectory: path,
    memoryBytes: 2_000,
  });
  t.is(count, wanted.size);
  const values = tableFromIPC(readFileSync(out))
    .toArray()
    .map((row) => Buffer.from((row.toJSON() as { value: Uint8Array }).value).toString());
  t.deepEqual(values.sort(), [...wanted.values()].sort());

  const victim = names.at(-2) ?? "";
  const bytes = readFileSync(victim);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 0xff;
  writeFileSync(victim, bytes);
  const found = await verify();
  t.is(found.damaged, 1);
  t.true(found.text.includes(victim));
});
