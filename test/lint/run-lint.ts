/**
 * `make lint`: types, oxlint, the import rule, dead code, prettier. Each check also runs on a fixture of test/lint/canary that it
 * must refuse, since a check that cannot fail is not one; and the import rule must have seen every module, since the
 * tool passes with none when it does not know the compiler.
 */
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const canary = join("test", "lint", "canary");

interface Outcome {
  readonly code: number;
  readonly output: string;
}

function run(command: string, commandArguments: readonly string[], directory = root): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(root, "node_modules", ".bin", command), commandArguments, { cwd: directory });
    const chunks: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, output: Buffer.concat(chunks).toString() }));
  });
}

function modulesBelow(folder: string): number {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".ts"))
    .length;
}

/** A failure to report, or undefined. */
type Check = () => Promise<string | undefined>;

async function mustPass(command: string, commandArguments: readonly string[]): Promise<string | undefined> {
  const { code, output } = await run(command, commandArguments);
  return code === 0 ? undefined : output;
}

async function mustRefuse(pattern: RegExp, command: string, commandArguments: readonly string[]) {
  const { code, output } = await run(command, commandArguments);
  return code !== 0 && pattern.test(output) ? undefined : `the canary was not refused (${String(pattern)}):\n${output}`;
}

interface Cruise {
  readonly summary: {
    readonly totalCruised: number;
    readonly error: number;
    readonly violations: readonly { rule: { name: string; severity: string }; from: string; to: string }[];
  };
}

async function cruise(directory: string, ...folders: string[]): Promise<Cruise["summary"]> {
  const config = join(root, ".dependency-cruiser.cjs");
  const { output } = await run("depcruise", ["--config", config, "--output-type", "json", ...folders], directory);
  if (!output.startsWith("{")) throw new Error(output);
  return (JSON.parse(output) as Cruise).summary;
}

const knip = ["--no-progress", "--treat-config-hints-as-errors"];
const oxlint = ["--type-aware", "--deny-warnings"];
const checks: ReadonlyArray<readonly [string, Check]> = [
  ["types", () => mustPass("tsc", ["-p", "tsconfig.json", "--noEmit", "--pretty", "false"])],
  [
    "oxlint",
    () => mustPass("oxlint", [...oxlint, "--ignore-pattern", `${canary}/**`, "runner", "sdk-harness", "test", "bin"]),
  ],
  ["oxlint canary: promises", () => mustRefuse(/floating/, "oxlint", [...oxlint, join(canary, "floating-promise.ts")])],
  [
    "oxlint canary: time and chance",
    () =>
      mustRefuse(/Date\.now[^]*Math\.random|Math\.random[^]*Date\.now/, "oxlint", [
        ...oxlint,
        join(canary, "time-and-chance.ts"),
      ]),
  ],
  [
    "import rule",
    async () => {
      const { totalCruised, violations } = await cruise(root, "runner", "sdk-harness");
      const expected = modulesBelow("runner") + modulesBelow("sdk-harness");
      if (totalCruised < expected) return `only ${totalCruised} of ${expected} modules were cruised`;
      const errors = violations.filter(({ rule }) => rule.severity === "error");
      return errors.length === 0
        ? undefined
        : errors.map(({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`).join("\n");
    },
  ],
  [
    "import rule canary",
    async () => {
      const { violations } = await cruise(join(root, canary), "runner");
      const refused = (name: string) => violations.some(({ rule }) => rule.name === name);
      return refused("coders-imports") && refused("no-cycles") ? undefined : "the canary was not refused";
    },
  ],
  ["dead code", () => mustPass("knip", knip)],
  // What only tests use is dead too, unless a tag says that it is for them.
  ["dead code but for tests", () => mustPass("knip", [...knip, "--production"])],
  [
    "dead code canary",
    () => mustRefuse(/neverImported/, "knip", [...knip, "--config", join(canary, "dead-code", "knip.json")]),
  ],
  [
    "prettier",
    () =>
      mustPass("prettier", [
        "--check",
        "--log-level",
        "warn",
        "runner",
        "sdk-harness",
        "test",
        "*.json",
        "*.js",
        "*.cjs",
      ]),
  ],
  [
    "prettier canary",
    () =>
      mustRefuse(/unformatted/, "prettier", ["--check", "--ignore-path", "/dev/null", join(canary, "unformatted.ts")]),
  ],
];

const failures = await Promise.all(checks.map(([, check]) => check().catch((error: unknown) => String(error))));
for (const [index, [name]] of checks.entries()) {
  const failure = failures[index];
  console.log(failure === undefined ? `lint: ${name}: ok` : `lint: ${name}: FAILED\n${failure.trimEnd()}`);
}
process.exitCode = failures.every((failure) => failure === undefined) ? 0 : 1;
