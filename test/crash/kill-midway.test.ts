// kill -9 of real processes in the middle of a job (kill_midway.py): the output is that of an undisturbed run.
import test from "ava";
import { runPython } from "../support/weir-server.ts";

for (const victim of ["harness", "worker"]) {
  test.serial(`a word count whose ${victim} is killed midway has the output of an undisturbed run`, async (t) => {
    t.timeout(240_000);
    const { code, stdout, stderr } = await runPython("test/crash/kill_midway.py", [victim], 230_000);
    t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
    t.regex(stdout, /equal output/);
  });
}
