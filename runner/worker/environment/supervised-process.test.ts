import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import type { StartedHarness } from "../task/ports.ts";
import { startSupervised } from "./supervised-process.ts";

async function start(script: string, graceMs = 200): Promise<{ harness: StartedHarness; directory: string }> {
  const directory = await mkdtemp(join(tmpdir(), "weir-test-"));
  const path = join(directory, "boot");
  await writeFile(path, `#!/bin/sh\ncd ${directory}\n${script}\n`);
  await chmod(path, 0o755);
  const harness = await startSupervised({
    what: "The test's command",
    command: path,
    args: [],
    env: process.env,
    directory,
    graceMs,
    clock: systemClock,
    log: silentLog(),
  });
  return { harness, directory };
}

async function pidsIn(directory: string, count: number): Promise<number[]> {
  for (;;) {
    const text = await readFile(join(directory, "pids"), "utf8").catch(() => "");
    const lines = text.split("\n").filter((line) => line !== "");
    if (lines.length >= count && text.endsWith("\n")) return lines.map(Number);
    await systemClock.sleep(10);
  }
}

/** A zombie is not running: whoever adopted it has not reaped it yet. */
function isRunning(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

test("stop() kills a command that ignores SIGTERM, its child in another process group, and removes its folder", async (t) => {
  // Job control (set -m) gives the child a process group of its own, as Beam's Go boot does.
  const { harness, directory } = await start(
    `trap '' TERM; set -m; (trap '' TERM; while :; do sleep 1000; done) & echo $! >>pids; echo $$ >>pids; wait; wait`,
  );
  const pids = await pidsIn(directory, 2);
  t.true(pids.every(isRunning));
  await harness.stop();
  t.deepEqual(pids.filter(isRunning), []);
  t.false(existsSync(directory));
  t.regex((await harness.exited).reason, /was ended by SIGKILL/);
});

test("a command that ends leaves none of its children behind and tells its last 50 lines", async (t) => {
  const { harness, directory } = await start(
    `sleep 1000 & echo $! >pids; for n in $(seq 60); do echo line $n; done; echo last words >&2; exit 3`,
  );
  const exit = await harness.exited;
  t.is(exit.reason, "The test's command exited with code 3");
  t.is(exit.lastOutput.length, 50);
  t.true(exit.lastOutput.includes("last words"));
  t.true(exit.lastOutput.includes("line 60"));
  t.false(exit.lastOutput.includes("line 5"));
  t.false(existsSync(directory));
});

test("stop() may be called twice and after the end", async (t) => {
  const { harness } = await start("exit 0");
  await Promise.all([harness.stop(), harness.stop()]);
  const exit = await harness.exited;
  await harness.stop();
  t.is(await harness.exited, exit);
});

test("a command that is not executable is refused by name, and its folder is removed", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "weir-test-"));
  const path = join(tmpdir(), `weir-test-plain-${process.pid}`);
  await writeFile(path, "not a program");
  const starting = startSupervised({
    what: `The command ${path}`,
    command: path,
    args: [],
    env: {},
    directory,
    graceMs: 100,
    clock: systemClock,
    log: silentLog(),
  });
  await t.throwsAsync(starting, { message: /The command .* cannot be run: it is not executable/ });
  await rm(path);
  t.false(existsSync(directory));
});
