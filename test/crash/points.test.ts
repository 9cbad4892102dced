// Processes of a streaming job die at named points of the checkpoint protocol (point_cases.py).
import test from "ava";
import { runPython } from "../support/weir-server.ts";

const CASES = {
  "a worker dies around its part of a checkpoint": ["before-barrier", "during-alignment", "before-acknowledgment"],
  "a worker dies after a checkpoint, in a restore and in a compaction": [
    "before-finalization",
    "during-restore",
    "during-compaction",
  ],
  "the job server dies before and after it writes a manifest": ["before-manifest", "after-manifest"],
};

for (const [title, points] of Object.entries(CASES))
  test.serial(title, async (t) => {
    t.timeout(310_000);
    const { code, stdout, stderr } = await runPython("test/crash/point_cases.py", points, 300_000);
    t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
    t.regex(stdout, new RegExp(`killed at ${points.length} points, from the beginning: 0\\n`));
    t.regex(stdout, /each number counted once/);
  });
