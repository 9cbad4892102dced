// `weir attach` waits for a job again whose client has gone (left_job.py), and says how it ended.
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { runPython, runWeir, WeirProcess, WeirServer } from "../support/weir-server.ts";

let server: WeirServer;
const directory = mkdtempSync(join(tmpdir(), "weir-attach-test-"));

test.before(async () => {
  server = await WeirServer.open();
});

test.after.always(async (t) => {
  rmSync(directory, { recursive: true, force: true });
  if (server !== undefined) t.true(await server.close());
});

/** A job that runs until `end` is called; its client has gone. */
async function leftJob(t: ExecutionContext) {
  const path = join(mkdtempSync(join(directory, "job-")), "go");
  const { code, stdout, stderr } = await runPython("test/client/left_job.py", [server.endpoint, path]);
  t.is(code, 0, stderr);
  const { job } = JSON.parse(stdout) as { job: string };
  const end = (error = "") => {
    writeFileSync(`${path}.new`, error);
    renameSync(`${path}.new`, path);
  };
  return { job, end, args: ["attach", job, "--job-endpoint", server.endpoint] };
}

test.serial(
  "attach follows a job whose client has gone to its end, and tells the same of one that has ended",
  async (t) => {
    t.timeout(120_000);
    const { job, end, args } = await leftJob(t);
    const attached = new WeirProcess(args);
    t.teardown(() => attached.kill());
    await attached.printed(new RegExp(`^${job} RUNNING$`, "m"));
    t.notRegex(attached.stdout, /DONE/);
    end();
    t.is(await attached.ended, 0);
    t.regex(attached.stdout, new RegExp(`^${job} DONE\n$`, "m"));
    const again = await runWeir(args);
    t.deepEqual([again.code, again.stdout], [0, attached.stdout]);
  },
);

test.serial("attach prints why a job failed; exit code 1", async (t) => {
  t.timeout(120_000);
  const { job, end, args } = await leftJob(t);
  end("on purpose");
  const { code, stdout } = await runWeir(args, 100_000);
  t.is(code, 1);
  t.regex(stdout, /ERROR [^]*ValueError: on purpose/);
  t.regex(stdout, new RegExp(`^${job} FAILED\n$`, "m"));
});

test.serial("attach says that a job was cancelled; exit code 2", async (t) => {
  t.timeout(120_000);
  const { job, args } = await leftJob(t);
  const attached = new WeirProcess(args);
  t.teardown(() => attached.kill());
  await attached.printed(/RUNNING/);
  t.is((await runWeir(["cancel", job, "--job-endpoint", server.endpoint])).code, 0);
  t.is(await attached.ended, 2);
  t.regex(attached.stdout, new RegExp(`^${job} CANCELLED\n$`, "m"));
});

test("attach says where there is no server", async (t) => {
  const { code, stderr } = await runWeir(["attach", "job", "--job-endpoint", "localhost:1"]);
  t.is(code, 1);
  t.regex(stderr, /^weir: No job server answers at localhost:1: .*\n/);
});
