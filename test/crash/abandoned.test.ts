// A worker is killed while bundles of another one wait: what these tell later reaches nobody (abandoned_bundles.py).
import test from "ava";
import { runPython } from "../support/weir-server.ts";

test("bundles that are given up at a restart leave no traceback in the job's messages", async (t) => {
  t.timeout(280_000);
  const { code, stdout, stderr } = await runPython("test/crash/abandoned_bundles.py", [], 270_000);
  t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
  t.regex(stdout, /nobody was told/);
});
