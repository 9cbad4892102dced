import { spawnSync } from "node:child_process";
import test from "ava";

/** @returns what a process writes on stderr that logs by `statements`, without times */
function logged(format: "json" | "pretty", statements: string): string[] {
  const script = `
    import { createLog } from ${JSON.stringify(new URL("log.ts", import.meta.url).href)};
    import { WeirError } from ${JSON.stringify(new URL("errors.ts", import.meta.url).href)};
    const log = createLog("weir", "info", "${format}").child({ job: "job-1" });
    const lines = (count) => Array.from({ length: count }, (_, index) => "line " + index).join("\\n");
    const failure = (code, count) => new WeirError({ code, domain: "user", message: lines(count) });
    ${statements}`;
  const { stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return stderr
    .replaceAll(/^\[[\d:.]+\] /gm, "")
    .trimEnd()
    .split("\n");
}

test("on a terminal an event is a line: what happened, then the job and other values", (t) => {
  t.deepEqual(logged("pretty", `log.info({ state: "RUNNING", stage: "Create/{Impulse, Map}" }, "job state");`), [
    'INFO (weir): job state job=job-1 state=RUNNING stage="Create/{Impulse, Map}"',
  ]);
});

test("on a terminal a long error is whole where it ends something, and in part where it is tried again", (t) => {
  t.deepEqual(logged("pretty", `log.warn({ err: failure("ABORTED", 9) }, "again");`), [
    "WARN (weir): again job=job-1",
    ...["line 0", "…", "line 6", "line 7", "line 8"].map((line) => `    ${line}`),
  ]);
  const whole = logged("pretty", `log.error({ err: failure("ABORTED", 9) }, "failed");`);
  t.deepEqual(
    whole.slice(1),
    Array.from({ length: 9 }, (_, index) => `    line ${index}`),
  );
});

test("on a terminal the stack is shown of what is Weir's own fault", (t) => {
  const lines = logged("pretty", `log.warn({ err: new TypeError("no such thing") }, "closing failed");`);
  t.is(lines[1], "    TypeError: no such thing");
  t.regex(lines[2] ?? "", /^ {8}at /);
  t.regex(logged("pretty", `log.error({ err: failure("INTERNAL", 1) }, "failed");`)[2] ?? "", /^ {8}at /);
});

test("elsewhere an event is a line of JSON with the whole error, its cause apart", (t) => {
  const [line = "", ...more] = logged(
    "json",
    `log.warn({ err: new WeirError({ code: "ABORTED", domain: "user", message: "outer", cause: failure("ABORTED", 9) }) }, "again");`,
  );
  t.deepEqual(more, []);
  const { job, msg, err } = JSON.parse(line) as { job: string; msg: string; err: Record<string, unknown> };
  t.deepEqual([job, msg, err["message"], err["code"]], ["job-1", "again", "outer", "ABORTED"]);
  t.regex((err["cause"] as { message: string }).message, /line 8$/);
});
