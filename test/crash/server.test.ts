// Job servers of streaming jobs are killed, and others started on what they left (server_cases.py).
import test from "ava";
import { runPython } from "../support/weir-server.ts";

const CASES = {
  alone: "a job goes on from its checkpoint under the next job server, with one history under one id",
  workers: "the same when the workers were killed with their job server",
  early: "a job that had no complete checkpoint begins again under the next job server",
  external: "a worker pool that comes back later than the job server is waited for",
  remote: "workers that were started apart join the next job server, and the job goes on on them",
  machine: "when a machine is lost with its disk the job goes on elsewhere with the checkpoint storage alone",
  fenced: "a job server that has lost its job to another one completes no checkpoint of it, and says so",
  loopback: "a job whose user code ran in its client fails when both are gone, and says why",
  batch: "a job that runs stage by stage begins again under the next job server",
};

for (const [name, title] of Object.entries(CASES))
  test.serial(title, async (t) => {
    t.timeout(280_000);
    const { code, stdout, stderr } = await runPython("test/crash/server_cases.py", [name], 270_000);
    t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
    t.regex(stdout, /as it should be/);
  });
