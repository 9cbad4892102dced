// Networks between machines are cut under a streaming job (network_cases.py), where namespaces can be made.
import test from "ava";
import { runPython } from "../support/weir-server.ts";

const CASES = {
  blink: "two workers that do not hear each other for a moment cost nothing",
  cut: "two workers that do not hear each other go back to a checkpoint, and on when they do",
  away: "a worker that nobody hears ends its harnesses by itself while another one works in its place, and comes back",
};

for (const [name, title] of Object.entries(CASES))
  test.serial(title, async (t) => {
    t.timeout(310_000);
    const { code, stdout, stderr } = await runPython("test/crash/network_cases.py", [name], 300_000);
    t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
    if (/no network namespaces here/.test(stdout)) t.log("No network namespaces can be made here.");
    else t.regex(stdout, /each number counted once/);
  });
