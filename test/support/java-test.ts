/**
 * Tests that start services in Java, whose jars Maven fetches (maven_jars.py). Where one of the two is missing they are
 * skipped, and the reason is in their titles.
 */
import test, { type ExecutionContext } from "ava";
import { missingCommands } from "./cached-tools.ts";
import { runPython } from "./weir-server.ts";

const DOWNLOAD_LIMIT_MS = 900_000;

const missing = missingCommands("java", "mvn");

/**
 * @param jars names of files in test/support/maven; their jars are there when the test begins
 * @param limitMs of the test without downloads
 */
export function javaTest(
  title: string,
  jars: readonly string[],
  limitMs: number,
  implementation: (t: ExecutionContext) => Promise<void>,
): void {
  if (missing !== undefined) {
    test.serial.skip(`${title} (skipped: ${missing})`, implementation);
    return;
  }
  test.serial(title, async (t) => {
    t.timeout(DOWNLOAD_LIMIT_MS + 10_000);
    const { code, stdout, stderr } = await runPython("test/support/maven_jars.py", jars, DOWNLOAD_LIMIT_MS);
    t.is(code, 0, `${stdout}\n${stderr}`);
    t.timeout(limitMs);
    await implementation(t);
  });
}
