/**
 * `make test`: lint, the ava tests, then Beam's own suites, as CI runs them. Servers that the tests need are installed
 * meanwhile, where a machine can. All of them run even when one has failed, and the last line is `N passed, N failed`,
 * the sum of ava and conformance tests (a lint that fails counts as one).
 */
import { spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const summaryPath = join(root, ".cache", "conformance", "summary.json");

interface Counts {
  readonly passed: number;
  readonly failed: number;
}

/** Runs a command with its output shown; `onLine` sees each line of stdout. Returns the exit code. */
function run(command: string, commandArguments: readonly string[], onLine?: (line: string) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, commandArguments, {
      cwd: root,
      stdio: ["ignore", onLine === undefined ? "inherit" : "pipe", "inherit"],
    });
    let rest = "";
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) onLine?.(line);
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (rest !== "") onLine?.(rest);
      resolve(code ?? 1);
    });
  });
}

async function lint(): Promise<Counts> {
  const code = await run(join(root, "node_modules", ".bin", "node"), ["test/lint/run-lint.ts"]);
  return { passed: 0, failed: code === 0 ? 0 : 1 };
}

/** ava with TAP, whose points are counted, and which is shown without the noise of passing ones. */
async function ava(): Promise<Counts> {
  let passed = 0;
  let failed = 0;
  const code = await run(join(root, "node_modules", ".bin", "ava"), ["--tap"], (line) => {
    if (/^not ok \d+/.test(line) && !/# TODO/i.test(line)) failed++;
    if (/^ok \d+/.test(line) && !/# SKIP/i.test(line)) {
      passed++;
      console.log(line.replace(/^ok \d+ -/, "ok"));
    } else if (!/^(TAP version|\d+\.\.|# (tests|pass|fail|skip))|^---$/.test(line)) console.log(line);
  });
  console.log(`ava: ${passed} passed, ${failed} failed`);
  return { passed, failed: code !== 0 && failed === 0 ? 1 : failed };
}

async function conformance(): Promise<Counts> {
  rmSync(summaryPath, { force: true });
  const python = join(root, ".venv", "bin", "python");
  const code = await run(python, ["conformance/run.py", "--plan", "ci"]);
  try {
    const counts = JSON.parse(readFileSync(summaryPath, "utf8")) as Counts;
    return { passed: counts.passed, failed: code !== 0 && counts.failed === 0 ? 1 : counts.failed };
  } catch {
    return { passed: 0, failed: 1 };
  }
}

/** Slow ones are there when the tests come to them; what fails here fails there, and says so. */
const tools = run(join(root, "node_modules", ".bin", "node"), ["test/support/install-tools-main.ts"]);
let passed = 0;
let failed = 0;
for (const part of [lint, ava, conformance]) {
  const counts = await part();
  passed += counts.passed;
  failed += counts.failed;
}
await tools;
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
