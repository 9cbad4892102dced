// Stages that require stable input get a checkpoint when their input has ended, however long the interval is.
import test from "ava";
import { runPython, WeirServer } from "../support/weir-server.ts";

test.serial("the end of a job with stable input does not wait for the checkpointing interval", async (t) => {
  t.timeout(120_000);
  const server = await WeirServer.open();
  try {
    const { code, stdout, stderr } = await runPython("test/client/stable_input.py", [server.endpoint]);
    t.is(code, 0, stderr.slice(-4_000));
    t.regex(stdout, /stable: 200/);
  } finally {
    t.true(await server.close());
  }
});
