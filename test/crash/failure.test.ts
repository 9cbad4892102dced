// What may break while a job runs, with real processes (cases: failure_cases.py; each has a server of its own).
import test from "ava";
import { runPython } from "../support/weir-server.ts";

const cases: readonly (readonly [string, string])[] = [
  ["hung_worker", "a worker that hangs is found by its missing heartbeats and replaced; the output is right"],
  ["killed_worker_with_stuck_harness", "a harness stuck in user code does not outlive its killed worker"],
  ["killed_worker_external", "a killed worker costs no result where the harness is a pool's or the client's"],
  ["dead_loopback_client", "the job of a LOOPBACK client that dies fails within seconds and says so"],
  ["late_external_pool", "an EXTERNAL pool that is not there yet is waited for"],
  ["user_exceptions", "an exception in any method of a DoFn reaches the client with its traceback"],
  ["teardown_exception", "an exception in teardown hangs nothing"],
  ["cancel", "a job that is stuck in user code is cancelled within seconds and leaves nothing"],
  ["terminated_server", "a server ended by SIGTERM while a job runs leaves no process and no folder"],
  ["killed_server", "workers and harnesses end by themselves when the job server is killed"],
  ["power_cut", "folders of processes that were killed all at once are removed by the next server"],
  ["bundle_attempts", "a bundle that fails as often as it may fails its job with the first traceback"],
  ["poisoned_harness", "user code that ends its harness every time fails its job with the exit code and last output"],
  ["poisoned_worker", "user code that kills its worker every time fails its job"],
  ["disk_full", "a disk that stays full while spilling fails the job with the folder's name; the next job runs"],
];

for (const [name, title] of cases) {
  test.serial(title, async (t) => {
    t.timeout(120_000);
    const { code, stdout, stderr } = await runPython("test/crash/failure_cases.py", [name], 110_000);
    t.is(code, 0, `${stdout}\n${stderr.slice(-6_000)}`);
    t.regex(stdout, /as it should be/);
    if (stdout.includes("SKIPPED")) t.log(stdout);
  });
}
