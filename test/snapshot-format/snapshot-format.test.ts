/**
 * Snapshots that earlier versions of Weir have written (snapshot_job.py, one folder for each version of the format) are
 * read, verified, exported and restored by this one. Their rows are in *.golden beside them: WEIR_UPDATE_GOLDEN=1
 * rewrites these; read the diff before committing it. A folder is never written again.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tableFromIPC } from "apache-arrow";
import test from "ava";
import { encodeManifest } from "../../runner/checkpoint/snapshot-manifest.ts";
import { SnapshotChain } from "../../runner/state/keyed/snapshot-chain.ts";
import { SqliteRows } from "../../runner/state/keyed/sqlite-rows.ts";
import { runPython, runWeir, WeirServer } from "../support/weir-server.ts";

const here = import.meta.dirname;

/** At which the job goes on from each; in-flight data at the one that it was taken at alone. */
const PARALLELISMS: Readonly<Record<string, readonly number[]>> = { savepoint: [1, 3], "in-flight": [2] };

const LONGEST_BYTES = 400;

const snapshots = readdirSync(here)
  .filter((folder) => /^v\d+$/.test(folder))
  .sort()
  .flatMap((folder) =>
    readdirSync(join(here, folder), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => ({ title: `${folder}/${name}`, name, path: join(here, folder, name) })),
  );

function temporary(t: { teardown: (end: () => void) => void }): string {
  const path = mkdtempSync(join(tmpdir(), "weir-snapshot-format-"));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

for (const { title, name, path } of snapshots) {
  test.serial(`${title} is whole, and has the rows that it had`, async (t) => {
    t.timeout(120_000);
    const verified = await runWeir(["checkpoint", "verify", path], 60_000);
    t.is(verified.code, 0, verified.stdout + verified.stderr);
    t.regex(verified.stdout, /^checkpoint \d+: whole/m);
    const out = join(temporary(t), "rows.arrow");
    const exported = await runWeir(["checkpoint", "export", path, "--out", out], 60_000);
    t.is(exported.code, 0, exported.stderr);
    const rows = `${rowsOf(out).join("\n")}\n`;
    const golden = `${path}.golden`;
    if (process.env["WEIR_UPDATE_GOLDEN"] === "1") writeFileSync(golden, rows);
    t.is(rows, readFileSync(golden, "utf8"));
  });

  for (const parallelism of PARALLELISMS[name] ?? [])
    test.serial(`a job goes on from ${title} with parallelism ${parallelism}`, async (t) => {
      t.timeout(180_000);
      const before = contentOf(path);
      const server = await WeirServer.open(["--workers", parallelism > 1 ? "2" : "1"]);
      try {
        const args = ["restore", server.endpoint, path, String(parallelism)];
        const { code, stdout, stderr } = await runPython("test/snapshot-format/snapshot_job.py", args, 170_000);
        t.is(code, 0, stderr.slice(-4_000));
        t.regex(stdout, /as it should be/);
      } finally {
        t.true(await server.close());
      }
      t.deepEqual(contentOf(path), before);
    });
}

test("there are snapshots in the format that is written now", async (t) => {
  const directory = temporary(t);
  const rows = new SqliteRows({ directory, label: "rows", memoryBytes: 1_000_000, tracksChanges: true });
  const [file] = await new SnapshotChain({ rows, directory, label: "v0.0.1" }).freeze(1).write();
  rows.close();
  const manifest = JSON.parse(
    new TextDecoder().decode(
      encodeManifest({
        ...{ jobId: "job", jobName: "a job", checkpointId: 1, executionAttempt: 1, graphFingerprint: "ab" },
        ...{ maxParallelism: 128, triggeredMs: 1, completedMs: 2, tasks: [] },
      }),
    ),
  ) as { version: number };
  const now = { manifest: manifest.version, file: fileVersionOf(file?.path ?? "") };
  for (const wanted of Object.keys(PARALLELISMS)) {
    const versions = snapshots
      .filter(({ name }) => name === wanted)
      .map(({ path }) => {
        const manifestName = readdirSync(path).find((each) => each.endsWith(".json")) ?? "";
        const { version } = JSON.parse(readFileSync(join(path, manifestName), "utf8")) as { version: number };
        const [state] = readdirSync(join(path, "state")) as [string];
        return { manifest: version, file: fileVersionOf(join(path, "state", state)) };
      });
    t.true(
      versions.some(({ manifest: ofManifest, file: ofFile }) => ofManifest === now.manifest && ofFile === now.file),
      `Write a ${wanted} for ${JSON.stringify(now)}, as FORMAT.md says; there are ${JSON.stringify(versions)}.`,
    );
  }
});

/** A line for each row, whatever the order in which they were exported. */
function rowsOf(arrowFile: string): string[] {
  const table = tableFromIPC(readFileSync(arrowFile));
  const names = table.schema.fields.map(({ name }) => name);
  return [...table]
    .map((row) => {
      const columns = row as unknown as Record<string, unknown>;
      return names.flatMap((name) => (columns[name] === null ? [] : [`${name}=${textOf(columns[name])}`])).join(" ");
    })
    .sort();
}

/** Bytes as hex; what is long by its hash. */
function textOf(value: unknown): string {
  const text = value instanceof Uint8Array ? Buffer.from(value).toString("hex") : JSON.stringify(value);
  if (text.length <= LONGEST_BYTES) return text;
  return `${text.length}:sha256:${createHash("sha256").update(text).digest("hex")}`;
}

function fileVersionOf(path: string): number {
  return readFileSync(path).readUInt32BE(8);
}

function contentOf(path: string): readonly string[] {
  return readdirSync(path, { recursive: true, encoding: "utf8" })
    .filter((name) => statSync(join(path, name)).isFile())
    .map(
      (name) =>
        `${name} ${createHash("sha256")
          .update(readFileSync(join(path, name)))
          .digest("hex")}`,
    )
    .sort();
}
