/**
 * What `weir boot python` installs for a job, and in which order. Pure: files in, pip's command lines out.
 * Source: Beam's sdks/python/container/boot.go and piputil.go, whose names of staged files these are (stager.py).
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { StagedFile } from "./boot-artifacts.ts";
import type { PythonInstallation } from "./find-python.ts";

const REQUIREMENTS = "requirements.txt";
export const EXTRA_PACKAGES = "extra_packages.txt";
export const WORKFLOW = "workflow.tar.gz";
const SDK_SOURCE = "dataflow_python_sdk.tar";
/** Files that the harness reads by itself or that are for people only. */
const NOT_INSTALLED: ReadonlySet<string> = new Set(["pickled_main_session", "submission_environment_dependencies.txt"]);

export interface PipStep {
  readonly what: string;
  readonly args: readonly string[];
  /** Its failure is made good by a later step. */
  readonly mayFail: boolean;
}

export interface InstallFacts {
  readonly files: readonly StagedFile[];
  readonly directory: string;
  readonly python: PythonInstallation;
  /** The lines of extra_packages.txt; empty without one. */
  readonly extraPackages: readonly string[];
  /** Packages are built with what is installed, not in an environment that pip downloads for each. */
  readonly buildIsolation: boolean;
}

/** The steps in order; none when the job brings no packages. */
export function pipSteps(facts: InstallFacts): readonly PipStep[] {
  const { files, directory } = facts;
  const has = (name: string) => files.some((file) => file.name === name);
  const steps: PipStep[] = [];
  const install = (what: string, args: readonly string[], mayFail = false) =>
    steps.push({ what, args: ["install", "--no-cache-dir", "--disable-pip-version-check", ...args], mayFail });
  const isolation = facts.buildIsolation ? [] : ["--no-build-isolation"];

  const tag = `cp${facts.python.version.replace(".", "")}`;
  const wheel = files.find(({ name }) => name.startsWith("apache_beam") && name.endsWith(".whl") && name.includes(tag));
  const sdk = wheel?.name ?? (has(SDK_SOURCE) ? SDK_SOURCE : undefined);
  if (sdk !== undefined) install("the Beam SDK", [`${join(directory, sdk)}[gcp]`, ...isolation]);

  for (const file of files) {
    if (file.name !== REQUIREMENTS && !file.requirements) continue;
    const from = ["-r", join(directory, file.name), "--find-links", directory];
    // First what is staged, without the index; then the rest, which is nothing when all was staged.
    install(`staged packages of ${file.name}`, [...from, "--no-index", "--no-deps"], true);
    install(file.name, from);
  }
  for (const name of facts.extraPackages) {
    const path = join(directory, name);
    // The user's package replaces what is installed; its dependencies do not.
    install(`extra package ${name}`, ["--upgrade", "--force-reinstall", "--no-deps", path, ...isolation]);
    install(`dependencies of extra package ${name}`, [path, ...isolation]);
  }
  if (has(WORKFLOW)) install("the package of --setup_file", [join(directory, WORKFLOW), ...isolation]);
  return steps;
}

/** True when there is something for pip. */
export function bringsPackages(files: readonly StagedFile[]): boolean {
  return files.some(
    ({ name, requirements }) =>
      requirements ||
      [REQUIREMENTS, EXTRA_PACKAGES, WORKFLOW, SDK_SOURCE].includes(name) ||
      (name.startsWith("apache_beam") && name.endsWith(".whl")),
  );
}

/** The name of the virtual environment: same Python, same files, same environment. */
export function environmentKey(files: readonly StagedFile[], python: PythonInstallation): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([python.executable, python.version, python.beam, python.ownSitePackages]));
  const installed = files
    .filter(({ name }) => !NOT_INSTALLED.has(name))
    .map(({ name, sha256 }) => `${name}\0${sha256}`);
  hash.update(JSON.stringify(installed.toSorted()));
  return hash.digest("hex").slice(0, 32);
}

/** The names in extra_packages.txt. */
export function extraPackageNames(manifest: string): readonly string[] {
  return manifest
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "");
}
