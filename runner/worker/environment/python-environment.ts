/**
 * Virtual environments for jobs that bring packages: one for each set of staged files, made once and used by all
 * harnesses with the same set, on top of a Python that has apache_beam.
 *
 * Invariants: an environment that is used is complete (its marker file is written last); of several boots at once one
 * makes it and the others wait. The lock is SQLite's, so that it ends with its holder however that ends.
 */
import { execFile, spawn } from "node:child_process";
import { promisify } from "node:util";
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
  WORKFLOW,
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
  /** Told of every step. */
  readonly report: (line: string) => void;
  /** Told of every line that pip prints. */
  readonly onOutput: (line: string) => void;
}

/** The Python to run, and its environment's folder when it is not the given one. */
export interface PythonEnvironment {
  readonly executable: string;
  readonly virtualEnvironment: string | undefined;
}

const MARKER = "weir-complete";
const LOCK_POLL_MS = 100;
/** More environments than these are kept only while they may be in use. */
const KEPT_COUNT = 32;
const MAY_BE_IN_USE_MS = 7 * 24 * 60 * 60_000;

// Every submission packs the package of --setup_file anew, with new times: what is in it is what counts.
const HASH_ARCHIVE = `
import hashlib, sys, tarfile
digest = hashlib.sha256()
with tarfile.open(sys.argv[1]) as archive:
  for member in sorted(archive.getmembers(), key=lambda member: member.name):
    digest.update(repr((member.name, member.mode, member.type, member.linkname, member.size)).encode())
    if member.isfile():
      digest.update(archive.extractfile(member).read())
print(digest.hexdigest())
`;

/** Where environments are kept between jobs. */
export function environmentCacheDirectory(env: Readonly<Record<string, string | undefined>>): string {
  const given = env["WEIR_BOOT_CACHE"];
  if (given !== undefined && given !== "") return given;
  return join(env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "weir", "python-environments");
}

/** @throws WeirError when a package cannot be installed; why is in the output. */
export async function preparePython(init: PythonEnvironmentInit): Promise<PythonEnvironment> {
  const { python, files, cacheDirectory, clock } = init;
  if (!bringsPackages(files)) return { executable: python.executable, virtualEnvironment: undefined };
  const key = environmentKey(await byContent(init), python);
  const directory = join(cacheDirectory, key);
  const environment = { executable: join(directory, "bin", "python"), virtualEnvironment: directory };
  await mkdir(cacheDirectory, { recursive: true, mode: 0o700 });
  // A few locks for all environments: two that share one only wait for each other.
  const unlock = await lock(join(cacheDirectory, `lock-${key.slice(0, 1)}`), clock);
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
    await removeUnused(cacheDirectory, clock.nowMs() - MAY_BE_IN_USE_MS);
    return environment;
  } catch (failure) {
    if (!existsSync(join(directory, MARKER))) await rm(directory, { recursive: true, force: true });
    throw failure;
  } finally {
    unlock();
  }
}

async function create(init: PythonEnvironmentInit, executable: string, directory: string): Promise<void> {
  const { python, report, onOutput } = init;
  report(`Making the virtual environment ${directory}`);
  // Python's own pip does for the new environment too, and saves seconds.
  await run("venv", python.executable, ["-m", "venv", "--system-site-packages", "--without-pip", directory], onOutput);
  if (python.ownSitePackages.length > 0) await seeParent(executable, python.ownSitePackages);
  if (!(await imports(executable, "pip"))) await run("ensurepip", executable, ["-m", "ensurepip"], onOutput);
  // Without isolation a package is built with the setuptools that are there, if they can: a bare Python 3.12 has none.
  const buildIsolation = init.buildIsolation || !(await imports(executable, "setuptools.command.bdist_wheel", "wheel"));
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
  for (const step of steps) await pip(step, executable, init);
}

/** A virtual environment made by one that is virtual itself sees the packages of the base Python only: add its own. */
async function seeParent(executable: string, sitePackages: readonly string[]): Promise<void> {
  const code = "import sysconfig; print(sysconfig.get_path('purelib'))";
  const { stdout } = await promisify(execFile)(executable, ["-c", code]);
  const lines = sitePackages.map((folder) => `import site; site.addsitedir(${JSON.stringify(folder)})\n`);
  await writeFile(join(stdout.trim(), "weir-parent.pth"), lines.join(""));
}

/** True when one of the modules is there. */
function imports(executable: string, ...modules: readonly string[]): Promise<boolean> {
  const code = `
import importlib.util, sys
def there(name):
  try:
    return importlib.util.find_spec(name) is not None
  except ImportError:
    return False
sys.exit(not any(map(there, ${JSON.stringify(modules)})))`;
  return new Promise((resolve) => {
    execFile(executable, ["-c", code], (failure) => resolve(failure === null));
  });
}

async function pip(step: PipStep, executable: string, init: PythonEnvironmentInit): Promise<void> {
  const { report, onOutput } = init;
  report(`Installing ${step.what}`);
  try {
    await run(`pip could not install ${step.what}`, executable, ["-m", "pip", ...step.args], onOutput);
  } catch (failure) {
    if (!step.mayFail) throw failure;
    report(`Not all of ${step.what} could be installed; asking the package index for the rest`);
  }
}

async function run(
  what: string,
  command: string,
  args: readonly string[],
  onOutput: (line: string) => void,
): Promise<void> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  const output = new OutputTail(onOutput);
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
      message: `${what} (exit ${code}); its own output is above.`,
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

/** The files with hashes that stay the same when only times do not. */
async function byContent(init: PythonEnvironmentInit): Promise<readonly StagedFile[]> {
  const { python, files, stagedDirectory } = init;
  const hashed = files.map(async (file) => {
    if (file.name !== WORKFLOW) return file;
    const args = ["-c", HASH_ARCHIVE, join(stagedDirectory, file.name)];
    const archive = await promisify(execFile)(python.executable, args).catch(() => undefined);
    // Not an archive: pip will say so.
    return archive === undefined ? file : { ...file, sha256: archive.stdout.trim() };
  });
  return await Promise.all(hashed);
}

/** Removes the least recently used environments beyond `KEPT_COUNT`, but none that may still be in use. */
async function removeUnused(cacheDirectory: string, olderThanMs: number): Promise<void> {
  const environments: { name: string; usedMs: number }[] = [];
  for (const name of await readdir(cacheDirectory)) {
    if (!/^[0-9a-f]{32}$/.test(name)) continue;
    const marker = await stat(join(cacheDirectory, name, MARKER)).catch(() => undefined);
    if (marker !== undefined) environments.push({ name, usedMs: marker.mtimeMs });
  }
  const surplus = environments.toSorted((left, right) => right.usedMs - left.usedMs).slice(KEPT_COUNT);
  for (const { name, usedMs } of surplus)
    if (usedMs < olderThanMs) await rm(join(cacheDirectory, name), { recursive: true, force: true });
}
