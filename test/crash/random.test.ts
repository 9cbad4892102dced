// Processes of a streaming job are harmed at random times (random_cases.py); its seed is in what a failure shows.
import test from "ava";
import { randomHex } from "../../runner/base/clock.ts";
import { runPython } from "../support/weir-server.ts";

test.serial("whatever dies or stands still at random times, each number is counted once", async (t) => {
  t.timeout(310_000);
  const seed = Number.parseInt(randomHex(3), 16);
  const { code, stdout, stderr } = await runPython("test/crash/random_cases.py", [String(seed), "8"], 300_000);
  t.is(code, 0, `seed ${seed}\n${stdout}\n${stderr.slice(-4_000)}`);
  t.regex(stdout, /[1-9] harms hit, [1-9]\d* restarts; each number counted once/);
  t.log(stdout.trim().split("\n").at(-1));
});
