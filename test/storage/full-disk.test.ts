// Disks that are full for a while (full_disk_cases.py), each a small tmpfs in a mount namespace of its own.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import test from "ava";
import { root, runToEnd } from "../support/weir-server.ts";

const OWN_MOUNTS = ["--mount", ...(process.getuid?.() === 0 ? [] : ["--map-root-user"])];
const mounts = spawnSync("unshare", [...OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
const declare = mounts.status === 0 ? test.serial : test.serial.skip;
const reason = mounts.status === 0 ? "" : ` (skipped: unshare and mount are not allowed here)`;
const LIMIT_MS = 290_000;

for (const [name, title] of [
  ["checkpoints", "a full disk fails checkpoints and no job, and they go on when there is room"],
  ["database", "a full disk under the job server's database ends no job and loses no message; a new job is refused"],
  ["grouped", "a job that groups more than fits into memory waits for room on a full disk"],
  ["state", "a streaming job whose state does not fit into memory waits for room on a full disk"],
  ["cancelled", "a job that waits for room can be cancelled"],
] as const)
  declare(`${title}${reason}`, async (t) => {
    t.timeout(LIMIT_MS + 10_000);
    const python = join(root, ".venv", "bin", "python");
    const script = join(root, "test", "storage", "full_disk_cases.py");
    const { code, stdout, stderr } = await runToEnd("unshare", [...OWN_MOUNTS, python, script, name], LIMIT_MS);
    t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
    t.regex(stdout, /nothing is lost/);
  });
