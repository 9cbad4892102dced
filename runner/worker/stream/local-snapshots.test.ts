import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { silentLog } from "../../base/log.ts";
import type { SnapshotFileInfo } from "../../state/keyed/snapshot-file.ts";
import { LocalSnapshots } from "./local-snapshots.ts";

const FILE_BYTES = 10;

function open(t: ExecutionContext, limitBytes: number) {
  const root = mkdtempSync(join(tmpdir(), "weir-local-snapshots-"));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const folder = join(root, "job");
  const local = new LocalSnapshots({ folder, limitBytes, log: silentLog() });
  let bytes = 0;
  const write = async (name: string): Promise<SnapshotFileInfo> => {
    const data = Buffer.alloc(FILE_BYTES, ++bytes);
    const path = join(local.folderOf("writer"), name);
    mkdirSync(local.folderOf("writer"), { recursive: true });
    writeFileSync(path, data);
    const sha256 = createHash("sha256").update(data).digest("hex");
    const file = { path: `s3://bucket/job/${name}`, byteLength: FILE_BYTES, sha256 };
    await local.keep(file, path);
    t.false(existsSync(path));
    return file;
  };
  const read = async (file: SnapshotFileInfo): Promise<Buffer | undefined> => {
    let found: Buffer | undefined;
    const restore = (path: string) => {
      found = readFileSync(path);
      return Promise.resolve();
    };
    const isRestored = await local.restoring(file, local.folderOf("reader"), restore);
    t.is(isRestored, found !== undefined);
    return found;
  };
  return { folder, local, write, read };
}

test("a file that is kept is restored from its copy, as often as need be", async (t) => {
  const { write, read, folder } = open(t, 100);
  const file = await write("v0.0.1-1.base");
  for (let round = 0; round < 2; round++) t.deepEqual(await read(file), Buffer.alloc(FILE_BYTES, 1));
  t.deepEqual(readdirSync(join(folder, "reader")), []);
});

test("a copy counts only if it is what the manifest names", async (t) => {
  const { write, read, folder } = open(t, 100);
  const file = await write("v0.0.1-1.base");
  t.is(await read({ ...file, byteLength: FILE_BYTES + 1 }), undefined);
  t.is(await read({ ...file, path: "s3://bucket/job/v0.0.1-2.base" }), undefined);
  t.truthy(await read(file));
  writeFileSync(join(folder, "kept", "v0.0.1-1.base"), Buffer.alloc(FILE_BYTES, 9));
  t.is(await read(file), undefined);
  t.deepEqual(readdirSync(join(folder, "kept")), []);
  t.deepEqual(readdirSync(join(folder, "reader")), []);
  const lost = await write("v0.0.1-2.delta");
  rmSync(join(folder, "kept", "v0.0.1-2.delta"));
  t.is(await read(lost), undefined);
});

test("beyond the limit the oldest copies go, and a file that is larger is not kept at all", async (t) => {
  const { write, read, folder } = open(t, 2 * FILE_BYTES);
  const files = [await write("a-1.base"), await write("b-1.base"), await write("a-2.delta")];
  t.deepEqual(await Promise.all(files.map(async (file) => (await read(file)) !== undefined)), [false, true, true]);
  t.deepEqual(readdirSync(join(folder, "kept")).sort(), ["a-2.delta", "b-1.base"]);
  const none = open(t, 1);
  t.is(await none.read(await none.write("a-1.base")), undefined);
});

test("what no restore of a task can need goes; other tasks' copies stay, until the job is over", async (t) => {
  const { write, folder, local } = open(t, 100);
  await write("v0.1.1-1.base");
  const newest = await write("v0.1.1-2.base");
  await write("v0.10.1-1.base");
  await local.retain("v0.1.", [newest]);
  t.deepEqual(readdirSync(join(folder, "kept")).sort(), ["v0.1.1-2.base", "v0.10.1-1.base"]);
  await local.close();
  t.false(existsSync(folder));
});

test("a copy that is dropped while it is read is read to its end", async (t) => {
  const { write, local } = open(t, 100);
  const file = await write("v0.0.1-1.base");
  await local.restoring(file, local.folderOf("reader"), async (path) => {
    await local.retain("v0.0.", []);
    t.is(readFileSync(path).length, FILE_BYTES);
  });
});
