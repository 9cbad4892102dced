/** Cases of a Python script as tests: one process for each, which says at its end that all was as it should be. */
import test from "ava";
import { runPython } from "./weir-server.ts";

const LIMIT_MS = 270_000;

/** @param cases titles by the script's argument. @param says what it prints at its end */
export function pythonCases(script: string, cases: Readonly<Record<string, string>>, says: RegExp): void {
  for (const [name, title] of Object.entries(cases))
    test.serial(title, async (t) => {
      t.timeout(LIMIT_MS + 10_000);
      const { code, stdout, stderr } = await runPython(script, [name], LIMIT_MS);
      t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
      t.regex(stdout, says);
    });
}
