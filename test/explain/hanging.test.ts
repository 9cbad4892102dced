// Where a bundle hangs in user code (hanging.py), `weir explain` shows its stack, and a job message does after a while.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { join } from "node:path";
import test from "ava";
import { systemClock } from "../../runner/base/clock.ts";
import { root, runWeir, WeirProcess, WeirServer } from "../support/weir-server.ts";

const STUCK_AFTER_SECONDS = 10;

const cases = [
  { title: "stage by stage, by PROCESS", options: ["PROCESS"], shown: /File ".*", line \d+, in function_that_hangs/ },
  { title: "streaming, by PROCESS", options: ["PROCESS", "--streaming"], shown: /in function_that_hangs/ },
  { title: "LOOPBACK, which has no status", options: ["LOOPBACK"], shown: /no worker status stream[^]*LOOPBACK/ },
];

for (const { title, options, shown } of cases)
  test.serial(`where a bundle hangs is explained and told in a job message: ${title}`, async (t) => {
    t.timeout(120_000);
    const server = await WeirServer.open(["--stuck-after", String(STUCK_AFTER_SECONDS)]);
    t.teardown(() => server.close());
    const script = join(root, "test", "explain", "hanging.py");
    const python = spawn(join(root, ".venv", "bin", "python"), [script, server.endpoint, ...options], {
      stdio: ["pipe", "pipe", "ignore"],
    });
    t.teardown(() => python.kill("SIGKILL"));
    const [line] = (await once(createInterface({ input: python.stdout }), "line")) as [string];
    const { job } = JSON.parse(line) as { job: string };
    const attached = new WeirProcess(["attach", job, "--job-endpoint", server.endpoint]);
    t.teardown(() => attached.kill());
    let explained = "";
    const deadlineMs = systemClock.monotonicMs() + 60_000;
    while (!shown.test(explained) && systemClock.monotonicMs() < deadlineMs)
      explained = (await runWeir(["explain", job, "--job-endpoint", server.endpoint])).stdout;
    t.regex(explained, /bundle \S+ on SDK harness \S+ runs for .* s, without progress for 1\d(\.\d)? s/);
    t.regex(explained, shown);
    // The message comes with the first look after the time, and in one piece.
    await attached.printed(/WARNING A bundle of .*Hang.* has made no progress for \d+ s/);
    t.regex(attached.stdout, shown);
    python.stdin.end("\n");
    await once(python, "close");
    t.is(await attached.ended, 2);
    t.regex(attached.stdout, /CANCELLED\s*$/);
  });
