// `weir explain` of a real streaming job (held_watermark.py) names everything that holds its watermark.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { join } from "node:path";
import test from "ava";
import { systemClock } from "../../runner/base/clock.ts";
import { root, runWeir, WeirServer } from "../support/weir-server.ts";

interface Explained {
  readonly stages: readonly {
    readonly outputWatermark: string | null;
    readonly holds: readonly { readonly kind: string; readonly transform: string; readonly count: number }[];
  }[];
}

test.serial(
  "weir explain names the timers, sources, triggers and side inputs that hold a job's watermark",
  async (t) => {
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
    const wanted = [
      "2 processing-time timer SetTimer",
      "1 residual Ticks/GenSequence",
      "1 residual Now/GenSequence",
      "0 grouping Group, LookAtGroup",
      "1 side input Lookup",
    ];
    let found: string[] = [];
    const deadlineMs = systemClock.monotonicMs() + 60_000;
    while (found.length < wanted.length && systemClock.monotonicMs() < deadlineMs) {
      const { stages } = JSON.parse((await explain("--json")).stdout) as Explained;
      found = stages
        .flatMap(({ holds }) => holds)
        .filter(({ kind }) => kind !== "bundle")
        .map(({ kind, transform, count }) => `${count} ${kind} ${transform}`);
    }
    t.deepEqual(found.sort(), wanted.sort());
    const { code, stdout } = await explain();
    t.is(code, 0);
    t.regex(stdout, /2 processing-time timers of SetTimer, family "ts-later" at -∞/);
    t.regex(stdout, /held by the grouping or its trigger of Group, LookAtGroup at \d/);
    t.regex(stdout, /held by main input of Lookup that waits for side input \w+ of Lookup at -∞/);
    t.regex(stdout, /Held back first at SetTimer\./);
    python.stdin.end("\n");
    await once(python, "close");
  },
);
