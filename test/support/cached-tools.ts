/**
 * Programs that tests need and that are no packages of npm: built by Go or installed by pip into .cache/tools (or
 * WEIR_TOOLS_CACHE), each at one version, once; jars are maven_jars.py's. What a machine cannot install, since it lacks
 * Go, Java or Maven, is `missing`, with the reason; an installation that fails is an error.
 *
 * Invariants: a tool's folder is complete or not there; of several processes that want the same tool one installs it.
 */
import { existsSync } from "node:fs";
import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { systemClock } from "../../runner/base/clock.ts";
import { root, runPython, runToEnd } from "./weir-server.ts";

export interface CachedTool {
  /** Of its folder; a version in it makes another one of it. */
  readonly name: string;
  /** Why it cannot be installed here. */
  readonly missing: string | undefined;
  /** Installs it, if need be. @returns its folder; of jars the class path. */
  install(): Promise<string>;
}

interface Installation {
  readonly name: string;
  readonly needs: string;
  /** Command lines that make it, in turn. */
  readonly commands: (folder: string) => readonly (readonly [command: string, ...args: string[]])[];
  readonly environment?: (folder: string) => Readonly<Record<string, string>>;
}

const ATTEMPTS = 3;
/** Of one command. Go builds from sources, on as many cores as it finds. */
const COMMAND_LIMIT_MS = 600_000;
const LOCK_POLL_MS = 250;

/** By `go install`: the folder has the program. */
export function goTool(name: string, path: string, version: string): CachedTool {
  return cachedTool({
    name: `${name}-${version}`,
    needs: "go",
    commands: () => [["go", "install", `${path}@${version}`]],
    environment: (folder) => ({ GOBIN: folder }),
  });
}

/** By pip, in a virtual environment: programs are in the folder's `bin`. */
export function pythonTool(name: string, requirements: readonly string[]): CachedTool {
  return cachedTool({
    name,
    needs: "python3",
    commands: (folder) => [
      ["python3", "-m", "venv", folder],
      [
        join(folder, "bin", "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        ...requirements,
      ],
    ],
  });
}

/** By Maven: what test/support/maven/NAME.xml depends on. */
export function mavenJars(name: string): CachedTool {
  return {
    name: `jars of ${name}`,
    missing: missingCommands("java", "mvn"),
    install: async () => {
      const { code, stdout, stderr } = await runPython("test/support/maven_jars.py", [name], COMMAND_LIMIT_MS);
      if (code !== 0) throw new Error(`jars of ${name}: ${stdout}\n${stderr}`);
      return stdout.trim().split("\n").at(-1) ?? "";
    },
  };
}

/** @returns which of them are not on the PATH, in words; undefined when all are */
function missingCommands(...commands: readonly string[]): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const absent = commands.filter((command) => !folders.some((folder) => existsSync(join(folder, command))));
  return absent.length === 0 ? undefined : `not on the PATH: ${absent.join(", ")}`;
}

function cachedTool({ name, needs, commands, environment = () => ({}) }: Installation): CachedTool {
  const folder = join(process.env["WEIR_TOOLS_CACHE"] ?? join(root, ".cache", "tools"), name);
  return {
    name,
    missing: missingCommands(needs),
    install: async () => {
      if (await isThere(folder)) return folder;
      await mkdir(dirname(folder), { recursive: true });
      const unlock = await lock(`${folder}.lock`);
      try {
        if (!(await isThere(folder))) await build(folder);
      } finally {
        await unlock();
      }
      return folder;
    },
  };

  // Where it stays, since a virtual environment knows its own path; the mark comes last.
  async function build(place: string): Promise<void> {
    let problem = "";
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      await rm(place, { recursive: true, force: true });
      await mkdir(place);
      problem = await runAll(place);
      if (problem === "") {
        await (await open(`${place}/${MARK}.part`, "w")).close();
        await rename(`${place}/${MARK}.part`, `${place}/${MARK}`);
        return;
      }
    }
    throw new Error(`${name} could not be installed in ${ATTEMPTS} attempts: ${problem}`);
  }

  async function runAll(place: string): Promise<string> {
    for (const [command, ...args] of commands(place)) {
      const variables = Object.entries(environment(place)).map(([key, value]) => `${key}=${value}`);
      const { code, stdout, stderr } = await runToEnd("env", [...variables, command, ...args], COMMAND_LIMIT_MS);
      if (code !== 0) return `${[command, ...args].join(" ")}: ${`${stdout}\n${stderr}`.trim().slice(-2_000)}`;
    }
    return "";
  }
}

const MARK = ".installed";

async function isThere(folder: string): Promise<boolean> {
  return stat(join(folder, MARK)).then(
    () => true,
    () => false,
  );
}

/** @returns what gives it free again. A lock of a process that has died is taken over. */
async function lock(path: string): Promise<() => Promise<void>> {
  for (;;) {
    try {
      const file = await open(path, "wx");
      await file.writeFile(String(process.pid));
      await file.close();
      return () => rm(path, { force: true });
    } catch (failure) {
      if ((failure as NodeJS.ErrnoException).code !== "EEXIST") throw failure;
    }
    const holder = Number(await readFile(path, "utf8").catch(() => ""));
    if (holder > 0 && !isAlive(holder)) await rm(path, { force: true });
    await systemClock.sleep(LOCK_POLL_MS);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
