/**
 * What Weir expects of every storage, on each of them: a local directory, and S3 as versitygw and moto serve it. A
 * server runs if it is on the machine: `versitygw` on the PATH or in WEIR_VERSITYGW, `moto_server` likewise in WEIR_MOTO.
 */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { type CheckpointStorage, locationIn } from "./checkpoint-storage.ts";
import { LocalStorage } from "./local-storage.ts";
import { systemClock } from "../base/clock.ts";
import { RetryingStorage } from "./retrying-storage.ts";
import { S3Storage } from "./s3-storage.ts";

const BIG_BYTES = 20 * 1024 * 1024 + 1;

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

const VERSITYGW = process.env["WEIR_VERSITYGW"] ?? "versitygw";
const MOTO = process.env["WEIR_MOTO"] ?? "moto_server";

testWith(VERSITYGW)("S3 as versitygw serves it, stopped and started again", async (t) => {
  const path = await temporary(t);
  const port = await freePort();
  await mkdir(join(path, "data", "bucket"), { recursive: true });
  await mkdir(join(path, "meta"));
  const args = ["--port", `127.0.0.1:${port}`, "posix", "--sidecar", join(path, "meta"), join(path, "data")];
  const first = await start(t, VERSITYGW, args, port);
  await contract(t, s3At(port), "s3://bucket/folder", path);
  await t.throwsAsync(s3At(port).open("s3://nobucket/x"), { code: "NOT_FOUND", message: /nobucket/ });

  await stop(first);
  const unreachable = s3At(port);
  const name = "s3://bucket/later";
  await t.throwsAsync(unreachable.create(name, Buffer.from("a")), { code: "UNAVAILABLE", message: /bucket\/later/ });
  await start(t, VERSITYGW, args, port);
  await unreachable.create(name, Buffer.from("a"));
  t.is(await unreachable.size(name), 1);
});

testWith(MOTO)("S3 as moto serves it", async (t) => {
  const path = await temporary(t);
  const port = await freePort();
  await start(t, MOTO, ["-H", "127.0.0.1", "-p", String(port)], port);
  t.true((await fetch(`http://127.0.0.1:${port}/bucket`, { method: "PUT" })).ok);
  await contract(t, s3At(port), "s3://bucket/folder", path);
});

function s3At(port: number): CheckpointStorage {
  process.env["AWS_ENDPOINT_URL"] = `http://127.0.0.1:${port}`;
  process.env["AWS_ACCESS_KEY_ID"] = "user";
  process.env["AWS_SECRET_ACCESS_KEY"] = "password";
  delete process.env["AWS_REGION"];
  return new RetryingStorage(new S3Storage(), { attempts: 2, firstDelayMs: 50, maxDelayMs: 50 });
}

/** Shown as skipped where the server is not installed. */
function testWith(command: string): (title: string, run: (t: ExecutionContext) => Promise<void>) => void {
  return isThere(command) ? test.serial : test.serial.skip;
}

function isThere(command: string): boolean {
  try {
    execFileSync("sh", ["-c", 'command -v "$0"', command], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function start(t: ExecutionContext, command: string, args: string[], port: number): Promise<ChildProcess> {
  const env = { ...process.env, ROOT_ACCESS_KEY: "user", ROOT_SECRET_KEY: "password" };
  const child = spawn(command, args, { env, stdio: "ignore" });
  t.teardown(() => stop(child));
  for (let attempt = 0; attempt < 300; attempt++) {
    if (await answers(port)) return child;
    await systemClock.sleep(100);
  }
  throw new Error(`${command} does not listen on port ${port}`);
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  return new Promise((resolve) => {
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
  }).then((is) => {
    socket.destroy();
    return is === true;
  });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}
