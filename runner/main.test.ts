import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import { Pipeline } from "../proto/gen/beam_runner_api.ts";
import { SmallPipeline } from "../test/pipelines/small-pipeline.ts";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Weir {
  readonly process: ChildProcess;
  /** The first line of stdout. */
  readonly firstLine: Promise<string>;
  readonly ended: Promise<Ended>;
}

function weir(t: ExecutionContext, ...args: string[]): Weir {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  t.teardown(() => child.kill("SIGKILL"));
  let stdout = "";
  let stderr = "";
  const firstLine = Promise.withResolvers<string>();
  child.stdout.on("data", (text: Buffer) => {
    stdout += text.toString();
    if (stdout.includes("\n")) firstLine.resolve(stdout.slice(0, stdout.indexOf("\n")));
  });
  child.stderr.on("data", (text: Buffer) => (stderr += text.toString()));
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, stdout, stderr }));
  void ended.then(({ stderr }) => firstLine.reject(new Error(`weir ended: ${stderr}`)));
  firstLine.promise.catch(() => undefined);
  return { process: child, firstLine: firstLine.promise, ended };
}

function newDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), "weir-main-test-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function serve(t: ExecutionContext, directory: string, ...args: string[]): Weir {
  const ports = ["--job-port", "0", "--artifact-port", "0", "--expansion-port", "-1", "--workers", "0"];
  const folders = ["--artifacts-dir", join(directory, "artifacts"), "--data-dir", join(directory, "data")];
  return weir(t, "serve", ...ports, ...folders, ...args);
}

test("serve prints one JSON line, answers the small commands, and SIGTERM ends it leaving no staged file", async (t) => {
  const directory = newDirectory(t);
  const server = serve(t, directory);
  const ready = JSON.parse(await server.firstLine) as Record<string, unknown>;
  t.deepEqual(Object.keys(ready), ["ready", "job", "artifact", "expansion", "http", "pid"]);
  t.deepEqual(
    [ready["ready"], ready["expansion"], ready["http"], ready["pid"]],
    [true, null, null, server.process.pid],
  );
  const endpoint = ["--job-endpoint", String(ready["job"])];
  const jobs = await weir(t, "jobs", ...endpoint).ended;
  t.deepEqual([jobs.code, jobs.stdout], [0, ""], jobs.stderr);
  const attach = await weir(t, "attach", "nonsense", ...endpoint).ended;
  t.is(attach.code, 1);
  t.regex(attach.stderr, /^weir: There is no job "nonsense"\..*\n$/);
  server.process.kill("SIGTERM");
  const { code, stdout } = await server.ended;
  t.is(code, 0);
  t.is(stdout.trimEnd().split("\n").length, 1);
  t.deepEqual(readdirSync(directory), ["data"]);
});

test("a port in use is one clear line and exit code 1", async (t) => {
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(0, "127.0.0.1", resolve));
  t.teardown(() => blocker.close());
  const { port } = blocker.address() as { port: number };
  const { code, stdout, stderr } = await serve(t, newDirectory(t), "--job-port", String(port)).ended;
  t.deepEqual([code, stdout], [1, ""]);
  t.regex(stderr, new RegExp(`^weir: Port ${port} is in use on localhost [^\\n]*--job-port[^\\n]*\\n$`));
});

test("an artifacts folder that cannot be written is one clear line and exit code 1", async (t) => {
  const directory = newDirectory(t);
  writeFileSync(join(directory, "file"), "");
  const folder = join(directory, "file", "artifacts");
  const { code, stderr } = await serve(t, directory, "--artifacts-dir", folder).ended;
  t.is(code, 1);
  t.regex(stderr, /^weir: The artifacts folder [^\n]* cannot be written[^\n]*--artifacts-dir\.\n$/);
});

test("jobs cannot be suspended in a folder that goes with the server: one clear line and exit code 1", async (t) => {
  const { code, stderr } = await weir(t, "serve", "--job-port", "0", "--workers", "0", "--on-shutdown", "suspend")
    .ended;
  t.is(code, 1);
  t.regex(stderr, /--on-shutdown suspend needs a folder that outlives the server.*--data-dir/);
});

test("a wrong command line is exit code 2", async (t) => {
  const { code, stderr } = await weir(t, "serve", "--job-port", "many").ended;
  t.is(code, 2);
  t.regex(stderr, /--job-port/);
});

test("plan prints the execution graph of a pipeline proto, and says what is wrong with a file that is none", async (t) => {
  const directory = newDirectory(t);
  const small = new SmallPipeline();
  small.groupByKey("group", small.parDo("parDo", small.impulse("impulse")));
  writeFileSync(join(directory, "good.pb"), Pipeline.encode(small.pipeline).finish());
  writeFileSync(join(directory, "bad.pb"), "no proto at all");
  const good = await weir(t, "plan", join(directory, "good.pb")).ended;
  t.is(good.code, 0, good.stderr);
  t.regex(good.stdout, /parDo/);
  const missing = join(directory, "missing.pb");
  const none = await weir(t, "plan", missing).ended;
  t.deepEqual([none.code, none.stdout, none.stderr.split("\n").length], [1, "", 2]);
  t.true(none.stderr.startsWith(`weir: ${missing} cannot be read: ENOENT`), none.stderr);
  const bad = await weir(t, "plan", join(directory, "bad.pb")).ended;
  t.is(bad.code, 1);
  t.regex(bad.stderr, /^weir: The 15 bytes given as a pipeline/);
});
