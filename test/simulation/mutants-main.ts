/**
 * `make simulate-mutants`: is the simulation any good? Makes each of the known-bad changes of mutants.ts, one at a
 * time, in a copy of the sources, runs schedules until one goes wrong, and says after how many. It fails when a mutant
 * is not found in SCHEDULES (default 200) from SEED on. MUTANT=text runs only those with the text in their title.
 */
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../runner/base/clock.ts";
import { mutate, type Mutant, MUTANTS } from "./mutants.ts";

const root = join(import.meta.dirname, "..", "..");
const COPIED = [
  "package.json",
  "proto/gen",
  "runner",
  "sdk-harness",
  "test/pipelines",
  "test/simulation",
  "test/support",
];
/** Of one mutant: a change may make a loop that never ends. */
const LIMIT_MS = 900_000;

const schedules = Number(process.env["SCHEDULES"] || "200");
const seed = Number(process.env["SEED"] || "1");
const wanted = process.env["MUTANT"] ?? "";

interface Run {
  /** Of the first schedule that went wrong, and what was wrong; undefined: none did. */
  readonly found: { readonly seed: number; readonly complaint: string } | undefined;
  readonly output: string;
}

/** Runs schedules of the sources in the directory until one goes wrong. */
async function simulate(directory: string, count: number, mode = ""): Promise<Run> {
  const set = { SEED: String(seed), SCHEDULES: String(count), MODE: mode, UNTIL_FAILURE: "1", VERBOSE: "" };
  const environment = { ...process.env, ...set };
  const child = spawn(process.execPath, [join("test", "simulation", "simulate-main.ts")], {
    cwd: directory,
    env: environment,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const ended = new AbortController();
  let isEndless = false;
  systemClock.sleep(LIMIT_MS, ended.signal).then(
    () => (isEndless = child.kill("SIGKILL")),
    () => undefined,
  );
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  ended.abort();
  const wrong = /^seed (\d+) went wrong .*\n {2}(.*)/m.exec(output);
  if (wrong !== null) return { found: { seed: Number(wrong[1]), complaint: wrong[2] ?? "" }, output };
  if (isEndless) return { found: { seed, complaint: "a schedule has no end" }, output };
  if (code !== 0) throw new Error(`The simulation ended with exit code ${code}:\n${output.slice(-2_000)}`);
  return { found: undefined, output };
}

async function run(directory: string, mutant: Mutant): Promise<boolean> {
  const { title, file } = mutant;
  const path = join(directory, file);
  const source = readFileSync(path, "utf8");
  writeFileSync(path, mutate(mutant, source));
  try {
    const { found } = await simulate(directory, schedules, mutant.mode);
    if (found === undefined) console.log(`NOT FOUND in ${schedules} schedules: ${title} (${file})`);
    else console.log(`found in schedule ${found.seed - seed + 1}: ${title}\n    ${found.complaint.slice(0, 150)}`);
    return found !== undefined;
  } finally {
    writeFileSync(path, source);
  }
}

const directory = mkdtempSync(join(tmpdir(), "weir-mutants-"));
try {
  for (const folder of COPIED) cpSync(join(root, folder), join(directory, folder), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
  const mutants = MUTANTS.filter(({ title }) => title.includes(wanted));
  const healthy = await simulate(directory, Math.min(schedules, 20));
  if (healthy.found !== undefined) throw new Error(`Without a mutant, too, a schedule went wrong:\n${healthy.output}`);
  let found = 0;
  for (const mutant of mutants) if (await run(directory, mutant)) found++;
  console.log(`seed ${seed}: ${found} of ${mutants.length} mutants found, each in at most ${schedules} schedules`);
  process.exitCode = found === mutants.length && found > 0 ? 0 : 1;
} finally {
  rmSync(directory, { recursive: true, force: true });
}
