// Metrics end to end (metrics.py), in both engines.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { runPython, WeirServer } from "../support/weir-server.ts";

for (const [engine, options] of [
  ["stage by stage", []],
  ["on the streaming engine", ["--streaming"]],
] as const)
  test.serial(
    `metrics of user code and the SDK's own come to the client, committed and attempted, ${engine}`,
    async (t) => {
      t.timeout(120_000);
      const directory = mkdtempSync(join(tmpdir(), "weir-metrics-test-"));
      t.teardown(() => rmSync(directory, { recursive: true, force: true }));
      const server = await WeirServer.open();
      try {
        const args = [server.endpoint, directory, ...options];
        const { code, stdout, stderr } = await runPython("test/client/metrics.py", args);
        t.is(code, 0, stderr.slice(-4_000));
        t.regex(stdout, /as it should be/);
      } finally {
        t.true(await server.close());
      }
    },
  );
