/**
 * `weir serve` on free ports for ava tests, from dist/ as a user runs it, and Python scripts as its clients.
 * Everything started here is ended by `close()`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const TERM_GRACE_MS = 15_000;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function environment(): NodeJS.ProcessEnv {
  const path = [join(root, "node_modules", ".bin"), join(root, ".venv", "bin"), process.env.PATH ?? ""].join(":");
  return { ...process.env, PATH: path };
}

/** Runs a command to its end. Killed after `limitMs`, in which case `code` is null. */
export function runToEnd(command: string, args: readonly string[], limitMs: number): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env: environment(), stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

/** Runs one of the repository's Python scripts. */
export function runPython(script: string, args: readonly string[], limitMs = 110_000): Promise<Ended> {
  return runToEnd(join(root, ".venv", "bin", "python"), [join(root, script), ...args], limitMs);
}

/** Runs a `weir` command that is expected to end by itself. */
export function runWeir(args: readonly string[], limitMs = 30_000): Promise<Ended> {
  return runToEnd(process.execPath, [join(root, "bin", "weir.js"), ...args], limitMs);
}

/** A `weir` command that goes on, with what it has printed so far. */
export class WeirProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  readonly #waiting = new Set<() => void>();
  #stdout = "";

  constructor(args: readonly string[]) {
    const child = spawn(process.execPath, [join(root, "bin", "weir.js"), ...args], {
      cwd: root,
      env: environment(),
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#child = child;
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.#stdout += text;
      for (const look of this.#waiting) look();
    });
    this.#ended = new Promise((resolve) => child.once("close", resolve));
  }

  get stdout(): string {
    return this.#stdout;
  }

  /** Resolves when what it has printed matches; rejects when it ends before. */
  async printed(pattern: RegExp): Promise<void> {
    const found = Promise.withResolvers<void>();
    const look = () => {
      if (pattern.test(this.#stdout)) found.resolve();
    };
    this.#waiting.add(look);
    look();
    const early = this.#ended.then(() => {
      look();
      found.reject(new Error(`It ended without ${String(pattern)}:\n${this.#stdout}`));
    });
    await found.promise;
    this.#waiting.delete(look);
    void early;
  }

  /** @returns its exit code when it has ended by itself. */
  get ended(): Promise<number | null> {
    return this.#ended;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}

interface ReadyLine {
  readonly job: string;
  readonly expansion: string | null;
}

export class WeirServer {
  readonly endpoint: string;
  /** HOST:PORT; null without --expansion-port among the arguments. */
  readonly expansion: string | null;
  readonly #child: ChildProcess;
  readonly #directory: string;

  private constructor(ready: ReadyLine, child: ChildProcess, directory: string) {
    this.endpoint = ready.job;
    this.expansion = ready.expansion;
    this.#child = child;
    this.#directory = directory;
  }

  /** @param variables of its environment beside ours */
  static async open(
    args: readonly string[] = [],
    variables: Readonly<Record<string, string>> = {},
  ): Promise<WeirServer> {
    const directory = mkdtempSync(join(tmpdir(), "weir-test-"));
    const ports = ["--job-port", "0", "--artifact-port", "0", "--expansion-port", "-1"];
    const folders = ["--data-dir", join(directory, "data"), "--artifacts-dir", join(directory, "artifacts")];
    const child = spawn(
      process.execPath,
      [join(root, "bin", "weir.js"), "serve", ...ports, ...folders, "--workers", "1", ...args],
      { cwd: root, env: { ...environment(), ...variables }, stdio: ["ignore", "pipe", "pipe"] },
    );
    let log = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (log = (log + text).slice(-8_000)));
    const line = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout }).once("line", resolve);
      child.once("close", () => reject(new Error(`weir serve ended before it was ready:\n${log}`)));
      child.once("error", reject);
    });
    return new WeirServer(JSON.parse(line) as ReadyLine, child, directory);
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Ends the server by SIGTERM. Returns false if it had to be killed. */
  async close(): Promise<boolean> {
    const child = this.#child;
    let clean = true;
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGTERM");
      const timer = setTimeout(() => {
        clean = false;
        child.kill("SIGKILL");
      }, TERM_GRACE_MS);
      await ended;
      clearTimeout(timer);
    }
    rmSync(this.#directory, { recursive: true, force: true });
    return clean;
  }
}
