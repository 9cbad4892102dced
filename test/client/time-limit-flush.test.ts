// Harnesses that flush by time (time_limit_flush.py): the experiment reaches them, and nothing is lost.
import test from "ava";
import { runPython, WeirServer } from "../support/weir-server.ts";

test.serial("data and timers that a harness flushes by time come whole, by PROCESS", async (t) => {
  t.timeout(120_000);
  const server = await WeirServer.open();
  try {
    const { code, stdout, stderr } = await runPython("test/client/time_limit_flush.py", [server.endpoint]);
    t.is(code, 0, stderr.slice(-4_000));
    t.regex(stdout, /as it should be/);
  } finally {
    t.true(await server.close());
  }
});
