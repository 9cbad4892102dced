// The stock client opens its streams on the preparation id first, with a deadline: it must not end a longer job.
import test from "ava";
import { runPython, WeirServer } from "../support/weir-server.ts";

test.serial("a job of 20 s is done with --job_server_timeout=5", async (t) => {
  t.timeout(120_000);
  const server = await WeirServer.open();
  try {
    const { code, stdout, stderr } = await runPython("test/client/long_job.py", [server.endpoint, "20"]);
    t.is(code, 0, stderr.slice(-4_000));
    t.regex(stdout, /done/);
  } finally {
    t.true(await server.close());
  }
});
