// --setup_file, --extra_package, --requirements_file and --save_main_session with real harnesses (packages.py).
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { runPython, WeirServer } from "../support/weir-server.ts";

const cache = mkdtempSync(join(tmpdir(), "weir-packages-test-"));
// For clients and harnesses: all packages are the test's own.
process.env["PIP_NO_INDEX"] = "1";
process.env["WEIR_BOOT_CACHE"] = cache;
let server: WeirServer;

test.before(async () => {
  server = await WeirServer.open();
});

test.after.always(async (t) => {
  if (server !== undefined) t.true(await server.close());
  rmSync(cache, { recursive: true, force: true });
});

test.serial("a job's packages and main session are there in its harnesses, and in no other job's", async (t) => {
  t.timeout(300_000);
  const { code, stdout, stderr } = await runPython("test/client/packages.py", [server.endpoint, "all"], 290_000);
  t.is(code, 0, stderr.slice(-6_000));
  t.regex(stdout, /as it should be/);
});

test.serial("packages that cannot be installed fail the job with the last lines of pip", async (t) => {
  t.timeout(300_000);
  const { code, stdout, stderr } = await runPython("test/client/packages.py", [server.endpoint, "missing"], 290_000);
  t.is(code, 0, stderr.slice(-6_000));
  t.regex(stdout, /No matching distribution found for weir-nowhere==7\.0/);
});
