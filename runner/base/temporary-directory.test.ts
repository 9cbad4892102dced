import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import test from "ava";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

test("folders of dead processes are swept, those of live ones and of others are not", (t) => {
  const parent = mkdtempSync(join(tmpdir(), "sweep-test-"));
  t.teardown(() => rmSync(parent, { recursive: true, force: true }));
  const named = (pid: number | undefined) => {
    const model = makeTemporaryDirectory("worker", parent);
    const name = basename(model).replace(`-${process.pid}-`, `-${pid}-`);
    rmSync(model, { recursive: true });
    mkdirSync(join(parent, name, "harnesses"), { recursive: true });
    return join(parent, name);
  };
  const dead = spawnSync(process.execPath, ["-e", ""]).pid;
  const ofLive = named(process.ppid);
  const ofDead = named(dead);
  const otherNamespace = join(parent, `weir-worker-1-${dead}-abcdef`);
  const unrelated = join(parent, "weir-worker-notes");
  mkdirSync(otherNamespace);
  mkdirSync(unrelated);
  const own = makeTemporaryDirectory("worker", parent);
  t.false(existsSync(ofDead));
  for (const kept of [ofLive, otherNamespace, unrelated, own]) t.true(existsSync(kept), kept);
});
