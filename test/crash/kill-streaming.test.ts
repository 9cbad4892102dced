// kill -9 of workers in the middle of a streaming job (kill_streaming.py): what they had counted is counted once.
import test from "ava";
import { runPython } from "../support/weir-server.ts";

test.serial(
  "a streaming job whose workers are killed goes on from its checkpoints and counts everything once",
  async (t) => {
    t.timeout(150_000);
    const { code, stdout, stderr } = await runPython("test/crash/kill_streaming.py", ["2"], 140_000);
    t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
    t.regex(stdout, /restarts from a checkpoint: [1-9]/);
    t.regex(stdout, /each number counted once/);
  },
);
