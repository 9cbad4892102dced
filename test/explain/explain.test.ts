// `weir explain` of a real streaming job (held_watermark.py) names the timer and the source that hold its watermark.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { join } from "node:path";
import test from "ava";
import { root, runWeir, WeirServer } from "../support/weir-server.ts";

interface Explained {
  readonly stages: readonly {
    readonly outputWatermark: string | null;
    readonly holds: readonly { readonly kind: string; readonly transform: string; readonly count: number }[];
  }[];
}

test.serial("weir explain names the timers and the source that hold a job's watermark", async (t) => {
  t.timeout(90_000);
  const server = await WeirServer.open();
  t.teardown(() => server.close());
  const script = join(root, "test", "explain", "held_watermark.py");
  const python = spawn(join(root, ".venv", "bin", "python"), [script, server.endpoint], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  t.teardown(() => python.kill("SIGKILL"));
  const [line] = (await once(createInterface({ input: python.stdout }), "line")) as [string];
  const { job } = JSON.parse(line) as { job: string };
  const explain = (...flags: string[]) => runWeir(["explain", job, "--job-endpoint", server.endpoint, ...flags]);
  let found: string[] = [];
  // Each round starts a process, so that this waits about half a minute.
  for (let round = 0; round < 60 && found.length < 2; round++) {
    const { stages } = JSON.parse((await explain("--json")).stdout) as Explained;
    found = stages
      .flatMap(({ holds }) => holds)
      .filter(({ kind }) => kind === "residual" || kind === "processing-time timer")
      .map(({ kind, transform, count }) => `${count} ${kind} ${transform}`);
  }
  t.deepEqual(found, ["2 processing-time timer SetTimer", "1 residual Ticks/GenSequence"]);
  const { code, stdout } = await explain();
  t.is(code, 0);
  t.regex(stdout, /2 processing-time timers of SetTimer, family "ts-later" at -∞/);
  t.regex(stdout, /Held back first at SetTimer\./);
  python.stdin.end("\n");
  await once(python, "close");
});
