/**
 * Tests that start services in Java, whose jars Maven fetches (maven_jars.py), and other servers (cached-tools.ts). Where
 * what they need is missing they are skipped, and the reason is in their titles.
 */
import test, { type ExecutionContext } from "ava";
import { type CachedTool, mavenJars } from "./cached-tools.ts";

const INSTALL_LIMIT_MS = 900_000;

/**
 * @param tools jars by the names of their files in test/support/maven, and others; installed when the test begins
 * @param limitMs of the test without that
 */
export function javaTest(
  title: string,
  tools: readonly (string | CachedTool)[],
  limitMs: number,
  implementation: (t: ExecutionContext) => Promise<void>,
): void {
  const needed = tools.map((tool) => (typeof tool === "string" ? mavenJars(tool) : tool));
  const missing = needed.flatMap((tool) => tool.missing ?? []);
  if (missing.length > 0) {
    test.serial.skip(`${title} (skipped: ${missing.join("; ")})`, implementation);
    return;
  }
  test.serial(title, async (t) => {
    t.timeout(INSTALL_LIMIT_MS);
    await Promise.all(needed.map((tool) => tool.install()));
    t.timeout(limitMs);
    await implementation(t);
  });
}
