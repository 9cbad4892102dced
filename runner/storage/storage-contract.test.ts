/**
 * What Weir expects of every storage, on each of them: a local directory, and stores as real servers serve them, which
 * the test installs and starts (test/support). What a machine cannot install is skipped, with the reason.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { findServer, STORAGE_SERVERS, type StorageServerKind } from "../../test/support/storage-servers.ts";
import { type CheckpointStorage, locationIn } from "./checkpoint-storage.ts";
import { GcsStorage } from "./gcs-storage.ts";
import { HdfsStorage } from "./hdfs-storage.ts";
import { LocalStorage } from "./local-storage.ts";
import { RetryingStorage } from "./retrying-storage.ts";
import { S3Storage } from "./s3-storage.ts";

/** More than two parts of a multipart upload, and not whole ones. */
const BIG_BYTES = 20 * 1024 * 1024 + 1;
const LITTLE_PATIENCE = { attempts: 2, firstDelayMs: 50, maxDelayMs: 50 };
const INSTALL_LIMIT_MS = 900_000;

async function contract(t: ExecutionContext, storage: CheckpointStorage, root: string, local: string): Promise<void> {
  const state = locationIn(root, "job", "state");
  await storage.open(state);
  const manifest = locationIn(root, "job", "checkpoint-1.json");
  await t.throwsAsync(storage.read(manifest), { code: "NOT_FOUND", message: new RegExp(`${root}.*checkpoint-1`) });
  t.is(await storage.size(manifest), undefined);
  await storage.create(manifest, Buffer.from("one"));
  await storage.create(manifest, Buffer.from("one"));
  await t.throwsAsync(storage.create(manifest, Buffer.from("two")), { code: "ALREADY_EXISTS" });
  t.is(Buffer.from(await storage.read(manifest)).toString(), "one");
  const race = await Promise.allSettled(
    Array.from({ length: 8 }, (_, index) => storage.create(`${manifest}.race`, Buffer.from(`writer ${index}`))),
  );
  t.is(race.filter(({ status }) => status === "fulfilled").length, 1);

  const small = join(local, "small");
  const big = join(local, "big");
  const back = join(local, "back");
  const content = Buffer.alloc(BIG_BYTES, "0123456789abcdefg");
  await writeFile(small, "");
  await writeFile(big, content);
  await storage.upload(locationIn(state, "empty.base"), small);
  await storage.upload(locationIn(state, "v 1+ü.0.delta"), big);
  t.is(await storage.size(locationIn(state, "empty.base")), 0);
  t.is(await storage.size(locationIn(state, "v 1+ü.0.delta")), BIG_BYTES);
  await storage.download(locationIn(state, "v 1+ü.0.delta"), back);
  t.true(content.equals(await readFile(back)));
  await t.throwsAsync(storage.download(locationIn(state, "none"), join(local, "none")), { code: "NOT_FOUND" });
  await t.throwsAsync(readFile(join(local, "none")), { code: "ENOENT" });

  await storage.create(locationIn(root, "job2", "checkpoint-1.json"), Buffer.from("other")).catch(async () => {
    await storage.open(locationIn(root, "job2"));
    await storage.create(locationIn(root, "job2", "checkpoint-1.json"), Buffer.from("other"));
  });
  t.deepEqual(await storage.folders(root), ["job", "job2"]);
  t.deepEqual(await storage.folders(locationIn(root, "job")), ["state"]);
  t.deepEqual(await storage.folders(locationIn(root, "none")), []);
  t.deepEqual(await storage.files(locationIn(root, "job")), [manifest, `${manifest}.race`]);
  t.deepEqual(await storage.files(root), []);
  t.deepEqual(await storage.files(locationIn(root, "none")), []);
  const inState = ["empty.base", "v 1+ü.0.delta"].map((name) => locationIn(state, name));
  t.deepEqual(await storage.list(locationIn(root, "job")), [manifest, `${manifest}.race`, ...inState]);
  await storage.delete([...inState, locationIn(state, "none")]);
  t.deepEqual(await storage.list(state), []);
  await storage.removeFolder(locationIn(root, "job"));
  t.deepEqual(await storage.list(root), [locationIn(root, "job2", "checkpoint-1.json")]);
}

async function temporary(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "weir-storage-"));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

test.serial("a local directory", async (t) => {
  const path = await temporary(t);
  await contract(t, new LocalStorage(), join(path, "store"), path);
});

/** A storage that knows nothing of the servers of other tests. */
const STORES: readonly (readonly [StorageServerKind, () => CheckpointStorage])[] = [
  [STORAGE_SERVERS.versitygw, () => new S3Storage()],
  [STORAGE_SERVERS.moto, () => new S3Storage()],
  [STORAGE_SERVERS.gcs, () => new GcsStorage()],
  [STORAGE_SERVERS.hdfs, () => new HdfsStorage()],
];

for (const [kind, newStorage] of STORES) {
  const { missing } = kind.tool;
  const declare = missing === undefined ? test.serial : test.serial.skip;
  declare(`${kind.name}, stopped and started again${missing === undefined ? "" : ` (${missing})`}`, async (t) => {
    t.timeout(INSTALL_LIMIT_MS);
    await kind.tool.install();
    const path = await temporary(t);
    await mkdir(join(path, "server"));
    const server = await kind.start(t, join(path, "server"));
    findServer(t, server);
    const storage = new RetryingStorage(newStorage(), LITTLE_PATIENCE);
    await contract(t, storage, server.root, path);

    if (server.root.startsWith("s3:")) await lostUpload(t, storage, server.root);
    const location = locationIn(server.root, "later");
    const big = locationIn(server.root, "big");
    await server.stop();
    const failure = { code: "UNAVAILABLE", message: new RegExp(location) };
    await t.throwsAsync(storage.create(location, Buffer.from("a")), failure);
    await t.throwsAsync(storage.read(location), failure);
    await t.throwsAsync(storage.upload(big, join(path, "big")), { code: "UNAVAILABLE" });
    await server.start();
    await storage.open(server.root);
    await storage.create(location, Buffer.from("a"));
    await storage.upload(big, join(path, "big"));
    t.is(await storage.size(location), 1);
    t.is(await storage.size(big), BIG_BYTES);
  });
}

/** A worker was killed while it sent a file in parts. */
async function lostUpload(t: ExecutionContext, storage: CheckpointStorage, root: string): Promise<void> {
  const { S3Client, CreateMultipartUploadCommand, ListMultipartUploadsCommand } = await import("@aws-sdk/client-s3");
  const client = new S3Client({ region: "us-east-1", forcePathStyle: true });
  const [, Bucket = "", folder = ""] = /^s3:\/\/([^/]+)\/(.*)$/.exec(root) ?? [];
  const uploads = async () => (await client.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads ?? [];
  await client.send(new CreateMultipartUploadCommand({ Bucket, Key: `${folder}/lost/state/v0.0.1-1.base` }));
  await client.send(new CreateMultipartUploadCommand({ Bucket, Key: `${folder}/other/state/v0.0.1-1.base` }));
  t.is((await uploads()).length, 2);
  await storage.removeFolder(locationIn(root, "lost"));
  t.deepEqual(
    (await uploads()).map(({ Key }) => Key),
    [`${folder}/other/state/v0.0.1-1.base`],
  );
  client.destroy();
}
