// Processes of streaming jobs with checkpoints are killed, stopped, and their snapshots damaged (recovery_cases.py).
import test from "ava";
import { runPython } from "../support/weir-server.ts";

const CASES = [
  {
    title: "a lost harness costs no rollback, a lost worker one to the last checkpoint that is whole",
    args: ["200", "harness", "worker", "flipped", "missing"],
    restarts: /restarts from a checkpoint: [1-9]\d*, from the beginning: 0/,
  },
  {
    title: "before its first checkpoint a job begins again; a hung worker is found and replaced",
    args: ["600000", "early", "hung"],
    restarts: /restarts from a checkpoint: 0, from the beginning: [1-9]/,
  },
];

for (const { title, args, restarts } of CASES)
  test.serial(title, async (t) => {
    t.timeout(150_000);
    const { code, stdout, stderr } = await runPython("test/crash/recovery_cases.py", args, 140_000);
    t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
    t.regex(stdout, restarts);
    t.regex(stdout, /each number counted once/);
  });

test.serial("a lost worker costs what is not connected with its tasks nothing", async (t) => {
  t.timeout(150_000);
  const { code, stdout, stderr } = await runPython("test/crash/region_cases.py", [], 140_000);
  t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
  t.regex(stdout, /one part never went back/);
});
