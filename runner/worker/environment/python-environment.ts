/**
 * Virtual environments for jobs that bring packages: one for each set of staged files, made once and used by all
 * harnesses with the same set, on top of a Python that has apache_beam.
 *
 * Invariants: an environment that is used is complete (its marker file is written last); of several boots at once one
 * makes it and the others wait. The lock is SQLite's, so that it ends with its holder however that ends.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { WeirError } from "../../base/errors.ts";
import type { StagedFile } from "./boot-artifacts.ts";
import type { PythonInstallation } from "./find-python.ts";
import { OutputTail } from "./output-tail.ts";
import {
  EXTRA_PACKAGES,
  type PipStep,
  bringsPackages,
  environmentKey,
  extraPackageNames,
  pipSteps,
} from "./python-packages.ts";

export interface PythonEnvironmentInit {
  readonly clock: Clock;
  readonly python: PythonInstallation;
  readonly files: readonly StagedFile[];
  /** Where the files are. */
  readonly stagedDirectory: string;
  readonly cacheDirectory: string;
  /** As the experiment pip_use_build_isolation asks. */
  readonly buildIsolation: boolean;
  /** Told of every line of pip's output and of our own steps. */
  readonly report: (line: string) => void;
}

/** The Python to run, and its environment's folder when it is not the given one. */
export interface PythonEnvironment {
  readonly executable: string;
  readonly virtualEnvironment: string | undefined;
}

const MARKER = "weir-complete";
const LOCK_POLL_MS = 100;
const UNUSED_MS = 30 * 24 * 60 * 60_000;

/** Where environments are kept between jobs. */
export function environmentCacheDirectory(env: Readonly<Record<string, string | undefined>>): string {
  const given = env["WEIR_BOOT_CACHE"];
  if (given !== undefined && given !== "") return given;
  return join(env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "weir", "python-environments");
}

/** @throws WeirError with the last lines of pip's output when a package cannot be installed. */
export async function preparePython(init: PythonEnvironmentInit): Promise<PythonEnvironment> {
  const { python, files, cacheDirectory, clock } = init;
  if (!bringsPackages(files)) return { executable: python.executable, virtualEnvironment: undefined };
  const key = environmentKey(files, python);
  const directory = join(cacheDirectory, key);
  const environment = { executable: join(directory, "bin", "python"), virtualEnvironment: directory };
  await mkdir(cacheDirectory, { recursive: true, mode: 0o700 });
  const unlock = await lock(join(cacheDirectory, `${key}.lock`), clock);
  try {
    const marker = join(directory, MARKER);
    if (existsSync(marker)) {
      init.report(`Using the virtual environment ${directory}`);
    } else {
      await rm(directory, { recursive: true, force: true });
      await create(init, environment.executable, directory);
      await writeFile(marker, "");
    }
    const now = new Date(clock.nowMs());
    await utimes(marker, now, now);
    await removeUnused(cacheDirectory, clock.nowMs() - UNUSED_MS);
    return environment;
  } catch (failure) {
    if (!existsSync(join(directory, MARKER))) await rm(directory, { recursive: true, force: true });
    throw failure;
  } finally {
    unlock();
  }
}

async function create(init: PythonEnvironmentInit, executable: string, directory: string): Promise<void> {
  const { python, report } = init;
  report(`Making the virtual environment ${directory}`);
  // Python's own pip does for the new environment too, and saves seconds.
  await run("venv", python.executable, ["-m", "venv", "--system-site-packages", "--without-pip", directory], report);
  if (python.ownSitePackages.length > 0) await seeParent(executable, python.ownSitePackages);
  if (!(await imports(executable, "pip"))) await run("ensurepip", executable, ["-m", "ensurepip"], report);
  // Without isolation a package is built with our setuptools, if we have them: Python 3.12 and later bring none.
  const buildIsolation = init.buildIsolation || !(await imports(executable, "setuptools"));
  const manifest = init.files.some(({ name }) => name === EXTRA_PACKAGES)
    ? await readFile(join(init.stagedDirectory, EXTRA_PACKAGES), "utf8")
    : "";
  const { files, stagedDirectory } = init;
  const steps = pipSteps({
    files,
    directory: stagedDirectory,
    python,
    extraPackages: extraPackageNames(manifest),
    buildIsolation,
  });
  for (const step of steps) await pip(step, executable, report);
}

/** A virtual environment made by one that is virtual itself sees the packages of the base Python only: add its own. */
async function seeParent(executable: string, sitePackages: readonly string[]): Promise<void> {
  const code = "import sysconfig; print(sysconfig.get_path('purelib'))";
  const own = await new Promise<string>((resolve, reject) => {
    execFile(executable, ["-c", code], (failure, stdout) => {
      if (failure === null) resolve(stdout.trim());
      else reject(failure);
    });
  });
  const lines = sitePackages.map((folder) => `import site; site.addsitedir(${JSON.stringify(folder)})\n`);
  await writeFile(join(own, "weir-parent.pth"), lines.join(""));
}

function imports(executable: string, module: string): Promise<boolean> {
  const code = `import importlib.util, sys; sys.exit(importlib.util.find_spec(${JSON.stringify(module)}) is None)`;
  return new Promise((resolve) => {
    execFile(executable, ["-c", code], (failure) => resolve(failure === null));
  });
}

async function pip(step: PipStep, executable: string, report: (line: string) => void): Promise<void> {
  report(`Installing ${step.what}`);
  try {
    await run(`pip could not install ${step.what}`, executable, ["-m", "pip", ...step.args], report);
  } catch (failure) {
    if (!step.mayFail) throw failure;
    report(`Not all of ${step.what} could be installed; asking the package index for the rest`);
  }
}

async function run(
  what: string,
  command: string,
  args: readonly string[],
  report: (line: string) => void,
): Promise<void> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  const output = new OutputTail(report);
  output.follow(child.stdout);
  output.follow(child.stderr);
  const code = await new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exitCode, signal) => resolve(signal ?? exitCode));
  });
  if (code !== 0)
    throw new WeirError({
      code: "FAILED_PRECONDITION",
      domain: "user",
      message: `${what} (exit ${code}):\n${output.lines().slice(-20).join("\n")}`,
    });
}

/** Holds an exclusive lock until the returned function is called, or the process ends. */
async function lock(path: string, clock: Clock): Promise<() => void> {
  // Loaded here: a job without packages, which is most of them, starts sooner without it.
  const { default: Database } = await import("better-sqlite3");
  const database = new Database(path, { timeout: 0 });
  for (;;) {
    try {
      database.exec("BEGIN EXCLUSIVE");
      return () => database.close();
    } catch (failure) {
      if (!String((failure as { code?: unknown }).code).startsWith("SQLITE_BUSY")) {
        database.close();
        throw failure;
      }
      await clock.sleep(LOCK_POLL_MS);
    }
  }
}

/** Environments whose last harness started long ago. */
async function removeUnused(cacheDirectory: string, olderThanMs: number): Promise<void> {
  for (const name of await readdir(cacheDirectory)) {
    if (!/^[0-9a-f]{32}$/.test(name)) continue;
    const marker = await stat(join(cacheDirectory, name, MARKER)).catch(() => undefined);
    if (marker !== undefined && marker.mtimeMs < olderThanMs)
      await rm(join(cacheDirectory, name), { recursive: true, force: true });
  }
}
