// A slow bundle is split by the runner onto an idle harness, with the real Python SDK (slow_bundles.py).
import test from "ava";
import { runPython, WeirServer } from "../support/weir-server.ts";

for (const idle of ["harness", "worker"])
  for (const kind of ["sdf", "channel"]) {
    test.serial(`a slow bundle is split onto an idle ${idle}: ${kind}`, async (t) => {
      t.timeout(120_000);
      const server = await WeirServer.open(idle === "worker" ? ["--workers", "2"] : []);
      try {
        const { code, stdout, stderr } = await runPython("test/split/slow_bundles.py", [server.endpoint, kind, idle]);
        t.is(code, 0, stderr.slice(-4_000));
        t.regex(stdout, /each element once/);
      } finally {
        t.true(await server.close());
      }
    });
  }
