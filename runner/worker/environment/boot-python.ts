/**
 * `weir boot python`: the boot command that containers of Beam's Python SDK have and its wheel lacks. Asks the
 * provision service, fetches the staged files, installs what they ask for, and becomes the harness:
 * `python -m apache_beam.runners.worker.sdk_worker_main`.
 *
 * It takes the place of this process where the platform can do that, so that signals, exit code and memory are the
 * harness's own; elsewhere it is a child. Unlike Beam's boot it does not start a crashed harness again: the runner does.
 *
 * Source: the contract of https://s.apache.org/beam-fn-api-container-contract, Beam's sdks/python/container/boot.go.
 */
import { spawn } from "node:child_process";
import { writeSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import { delimiter, join } from "node:path";
import { parseArgs } from "node:util";
import * as grpc from "@grpc/grpc-js";
import {
  type GetProvisionInfoRequest,
  type GetProvisionInfoResponse,
  type ProvisionInfo,
  ProvisionServiceDefinition,
} from "../../../proto/gen/beam_provision_api.ts";
import { systemClock } from "../../base/clock.ts";
import { WeirError, userError } from "../../base/errors.ts";
import { type GenericService, openClient, unaryCall } from "../../base/grpc.ts";
import { fetchArtifacts } from "./boot-artifacts.ts";
import { findPython } from "./find-python.ts";
import { type PythonEnvironment, environmentCacheDirectory, preparePython } from "./python-environment.ts";

const HARNESS_MODULE = "apache_beam.runners.worker.sdk_worker_main";
const PROVISION_DEADLINE_MS = 60_000;
/** Linux takes at most 128 KiB for one variable. */
const OPTIONS_VARIABLE_LIMIT_BYTES = 64 * 1024;

interface BootFlags {
  readonly id: string;
  readonly provisionEndpoint: string;
  readonly loggingEndpoint: string;
  readonly controlEndpoint: string;
  readonly artifactEndpoint: string;
  readonly semiPersistDirectory: string;
}

/** Resolves with the exit code: the harness's own, 2 for a wrong command line, 1 when it could not be started. */
export async function runBootPython(argv: readonly string[]): Promise<number> {
  try {
    const flags = parseFlags(argv);
    const { environment, env } = await prepare(flags);
    return await becomeHarness(environment.executable, env);
  } catch (failure) {
    const error = WeirError.from(failure);
    report(error.message);
    return error instanceof WrongCommandLine ? 2 : 1;
  }
}

class WrongCommandLine extends WeirError {}

function parseFlags(argv: readonly string[]): BootFlags {
  const text = { type: "string" } as const;
  let values: Readonly<Record<string, unknown>>;
  try {
    ({ values } = parseArgs({
      args: [...argv],
      strict: false,
      options: {
        id: text,
        provision_endpoint: text,
        logging_endpoint: text,
        control_endpoint: text,
        artifact_endpoint: text,
        semi_persist_dir: text,
      },
    }));
  } catch (failure) {
    throw new WrongCommandLine({ code: "INVALID_ARGUMENT", domain: "user", message: (failure as Error).message });
  }
  // Prism passes literal quotes.
  const flag = (name: string) => (typeof values[name] === "string" ? values[name].replace(/^'(.*)'$/, "$1") : "");
  const flags: BootFlags = {
    id: flag("id"),
    provisionEndpoint: flag("provision_endpoint"),
    loggingEndpoint: flag("logging_endpoint"),
    controlEndpoint: flag("control_endpoint"),
    artifactEndpoint: flag("artifact_endpoint"),
    semiPersistDirectory: flag("semi_persist_dir"),
  };
  for (const [name, value] of [
    ["--id", flags.id],
    ["--provision_endpoint", flags.provisionEndpoint],
  ] as const)
    if (value === "")
      throw new WrongCommandLine({
        code: "INVALID_ARGUMENT",
        domain: "user",
        message: `boot python needs ${name}; a runner gives it when this is the command of a PROCESS environment.`,
      });
  return flags;
}

async function prepare(flags: BootFlags): Promise<{ environment: PythonEnvironment; env: Record<string, string> }> {
  const metadata = new grpc.Metadata();
  metadata.set("worker_id", flags.id);
  const [info, python] = await Promise.all([askProvision(flags.provisionEndpoint, metadata), findPython(process.env)]);
  const semiPersistDirectory = flags.semiPersistDirectory || "/tmp";
  const stagedDirectory = join(semiPersistDirectory, "staged");
  await mkdir(stagedDirectory, { recursive: true });
  const artifactEndpoint = info.artifactEndpoint?.url || flags.artifactEndpoint;
  const files = await fetchArtifacts(artifactEndpoint, metadata, info.dependencies, stagedDirectory);
  const environment = await preparePython({
    clock: systemClock,
    python,
    files,
    stagedDirectory,
    cacheDirectory: environmentCacheDirectory(process.env),
    buildIsolation: experimentsOf(info.pipelineOptions ?? {}).includes("pip_use_build_isolation"),
    report,
    onOutput: (line) => void writeSync(2, `${line}\n`),
  });
  if (typeof optionOf(info.pipelineOptions ?? {}, "profiler_agent") === "string")
    report("--profiler_agent has no effect: only the boot program of Beam's own containers starts one.");
  const options = JSON.stringify(info.pipelineOptions ?? {});
  const optionsFile =
    Buffer.byteLength(options) > OPTIONS_VARIABLE_LIMIT_BYTES
      ? join(semiPersistDirectory, `pipeline_options-${flags.id.replace(/[^\w.-]/g, "_")}.json`)
      : undefined;
  if (optionsFile !== undefined) await writeFile(optionsFile, options, { mode: 0o600 });
  const ours = harnessVariables({ flags, info, semiPersistDirectory, options, optionsFile });
  const inherited = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const env: Record<string, string> = { ...Object.fromEntries(inherited), ...ours };
  if (environment.virtualEnvironment !== undefined) {
    env["VIRTUAL_ENV"] = environment.virtualEnvironment;
    env["PATH"] = [join(environment.virtualEnvironment, "bin"), env["PATH"] ?? ""].join(delimiter);
  }
  return { environment, env };
}

/** The harness's environment variables by Beam's contract. Pure. */
export function harnessVariables(facts: {
  readonly flags: Pick<BootFlags, "id" | "loggingEndpoint" | "controlEndpoint">;
  readonly info: ProvisionInfo;
  readonly semiPersistDirectory: string;
  readonly options: string;
  readonly optionsFile: string | undefined;
}): Record<string, string> {
  const { flags, info } = facts;
  const control = info.controlEndpoint?.url || flags.controlEndpoint;
  const logging = info.loggingEndpoint?.url || flags.loggingEndpoint;
  if (control === "")
    throw userError(
      "INVALID_ARGUMENT",
      "Neither the provision service nor --control_endpoint names a control endpoint.",
    );
  const status = info.statusEndpoint?.url ?? "";
  const { job_name: jobName, job_id: jobId } = info.metadata;
  return {
    WORKER_ID: flags.id,
    SEMI_PERSISTENT_DIRECTORY: facts.semiPersistDirectory,
    CONTROL_API_SERVICE_DESCRIPTOR: descriptorText(control),
    RUNNER_CAPABILITIES: info.runnerCapabilities.join(" "),
    ...(facts.optionsFile === undefined
      ? { PIPELINE_OPTIONS: facts.options }
      : { PIPELINE_OPTIONS_FILE: facts.optionsFile }),
    ...(logging === "" ? {} : { LOGGING_API_SERVICE_DESCRIPTOR: descriptorText(logging) }),
    ...(status === "" ? {} : { STATUS_API_SERVICE_DESCRIPTOR: descriptorText(status) }),
    ...(jobName === undefined ? {} : { JOB_NAME: jobName }),
    ...(jobId === undefined ? {} : { JOB_ID: jobId }),
  };
}

/** An ApiServiceDescriptor as text proto. */
function descriptorText(url: string): string {
  return `url: ${JSON.stringify(url)}`;
}

/** Options come with plain names, or as `beam:option:NAME:v1`. */
function optionOf(options: Readonly<Record<string, unknown>>, name: string): unknown {
  return options[`beam:option:${name}:v1`] ?? options[name];
}

function experimentsOf(options: Readonly<Record<string, unknown>>): readonly unknown[] {
  const experiments = optionOf(options, "experiments");
  return Array.isArray(experiments) ? experiments : [];
}

async function askProvision(endpoint: string, metadata: grpc.Metadata): Promise<ProvisionInfo> {
  const client = openClient(ProvisionServiceDefinition as unknown as GenericService, endpoint);
  try {
    const { info } = await unaryCall<GetProvisionInfoRequest, GetProvisionInfoResponse>(
      client,
      "getProvisionInfo",
      {},
      {
        deadlineMs: PROVISION_DEADLINE_MS,
        metadata,
      },
    );
    if (info === undefined) throw userError("FAILED_PRECONDITION", "it gave no information");
    return info;
  } catch (failure) {
    const error = WeirError.from(failure);
    throw new WeirError({
      code: error.code,
      domain: "external",
      message: `The provision service at ${endpoint} did not answer: ${error.message}`,
      cause: failure,
    });
  } finally {
    client.close();
  }
}

async function becomeHarness(executable: string, env: Record<string, string>): Promise<number> {
  const args = ["-m", HARNESS_MODULE];
  if (typeof process.execve === "function") {
    // The warning that execve is new would be the first line of every harness's output.
    process.removeAllListeners("warning");
    try {
      process.execve(executable, [executable, ...args], env);
    } catch (failure) {
      report(`The harness runs as a child: ${(failure as Error).message}`);
    }
  }
  const child = spawn(executable, args, { stdio: "inherit", env });
  const signals = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
  const forward = (signal: NodeJS.Signals) => void child.kill(signal);
  for (const signal of signals) process.on(signal, forward);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? "SIGKILL"]));
    });
  } finally {
    for (const signal of signals) process.off(signal, forward);
  }
}

/** Written at once and past Node's stream, which may be gone with this process the moment after. */
function report(line: string): void {
  writeSync(2, `weir boot python: ${line}\n`);
}
