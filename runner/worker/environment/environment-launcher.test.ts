import { chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type * as grpc from "@grpc/grpc-js";
import test from "ava";
import {
  BeamFnExternalWorkerPoolDefinition,
  type StartWorkerRequest,
  type StopWorkerRequest,
} from "../../../proto/gen/beam_fn_api.ts";
import {
  AnyOfEnvironmentPayload,
  DockerPayload,
  ExternalPayload,
  ProcessPayload,
} from "../../../proto/gen/beam_runner_api.ts";
import { systemClock } from "../../base/clock.ts";
import { WeirError } from "../../base/errors.ts";
import { type GenericService, GrpcServer, unaryHandler } from "../../base/grpc.ts";
import type { HarnessId, JobId } from "../../base/ids.ts";
import { silentLog } from "../../base/log.ts";
import type { HarnessStart } from "../task/ports.ts";
import { alternatives } from "./any-of.ts";
import { dockerRunArguments, stockPythonVersion } from "./docker.ts";
import { createHarnessLauncher } from "./environment-launcher.ts";

const directory = await mkdtemp(join(tmpdir(), "weir-launcher-test-"));
const temporaryDirectory = join(directory, "harnesses");
const launcher = (dockerImagesAsProcess = false, weirMainPath = "/nowhere/weir.js") =>
  createHarnessLauncher({
    log: silentLog(),
    clock: systemClock,
    nodePath: process.execPath,
    weirMainPath,
    dockerImagesAsProcess,
    temporaryDirectory,
  });

test.after.always(() => rm(directory, { recursive: true, force: true }));

function request(urn: string, payload: Uint8Array): HarnessStart {
  return {
    jobId: "job" as JobId,
    harnessId: "harness-1" as HarnessId,
    environment: { urn, payload, capabilities: [], resourceHints: [], dependencies: [] },
    endpoints: { control: "c:1", logging: "l:2", provision: "p:3", artifact: "a:4", status: "s:5" },
    pipelineOptions: {},
    signal: new AbortController().signal,
  };
}

async function script(name: string, text: string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, 0o755);
  return path;
}

function processPayload(command: string, env: Record<string, string> = {}): Uint8Array {
  return ProcessPayload.encode({ os: "", arch: "", command, env }).finish();
}

function externalPayload(url: string): Uint8Array {
  return ExternalPayload.encode({ endpoint: { url, authentication: undefined }, params: { flavour: "x" } }).finish();
}

async function openPool(error = ""): Promise<{ server: GrpcServer; started: StartWorkerRequest[]; stopped: string[] }> {
  const started: StartWorkerRequest[] = [];
  const stopped: string[] = [];
  const handlers = {
    startWorker: unaryHandler((start: StartWorkerRequest) => {
      started.push(start);
      return { error };
    }),
    stopWorker: unaryHandler((stop: StopWorkerRequest) => {
      stopped.push(stop.workerId);
      return { error: "" };
    }),
  } as unknown as grpc.UntypedServiceImplementation;
  const service = BeamFnExternalWorkerPoolDefinition as unknown as GenericService;
  return { server: await GrpcServer.open([{ service, handlers }], "localhost", 0), started, stopped };
}

test("PROCESS gives the command the standard arguments, the payload's variables and a folder that goes with it", async (t) => {
  const command = await script("boot", 'printf "%s\\n" "$@"; echo "flavour=$FLAVOUR"; exit 7');
  const payload = processPayload(command, { FLAVOUR: "sour" });
  const harness = await launcher().start(request("beam:env:process:v1", payload));
  const exit = await harness.exited;
  t.regex(exit.reason, /boot" of the PROCESS environment exited with code 7$/);
  const folder = exit.lastOutput.find((line) => line.startsWith("--semi_persist_dir="));
  t.true(folder?.startsWith(`--semi_persist_dir=${temporaryDirectory}/harness-harness-1-`));
  t.deepEqual(
    exit.lastOutput.filter((line) => line !== folder),
    [
      "--id=harness-1",
      "--provision_endpoint=p:3",
      "--logging_endpoint=l:2",
      "--control_endpoint=c:1",
      "--artifact_endpoint=a:4",
      "flavour=sour",
    ],
  );
  t.false((await readdir(temporaryDirectory)).some((name) => folder?.endsWith(name)));
});

test("a PROCESS command that does not exist is refused by name", async (t) => {
  const starting = launcher().start(request("beam:env:process:v1", processPayload("/no/such/boot")));
  const error = await t.throwsAsync(starting, { instanceOf: WeirError });
  t.is(
    error?.message,
    'The command "/no/such/boot" of the PROCESS environment cannot be run: there is no such file, or its interpreter is missing.',
  );
});

test("`weir boot python` needs no weir in PATH", async (t) => {
  const main = join(directory, "weir.js");
  await writeFile(main, "console.log(process.argv.slice(2, 5).join(' ')); process.exit(0)");
  const harness = await launcher(false, main).start(request("beam:env:process:v1", processPayload("weir boot python")));
  t.deepEqual((await harness.exited).lastOutput, ["boot python --id=harness-1"]);
});

test("EXTERNAL starts and stops the harness by its pool", async (t) => {
  const { server, started, stopped } = await openPool();
  const harness = await launcher().start(request("beam:env:external:v1", externalPayload(server.address)));
  t.is(started[0]?.workerId, "harness-1");
  t.is(started[0]?.controlEndpoint?.url, "c:1");
  t.is(started[0]?.provisionEndpoint?.url, "p:3");
  t.deepEqual(started[0]?.params, { flavour: "x" });
  await Promise.all([harness.stop(), harness.stop()]);
  t.deepEqual(stopped, ["harness-1"]);
  await server.close();
  // A pool that is gone cannot be asked any more, and need not be.
  await harness.stop();
});

test("EXTERNAL tells of a pool that cannot be reached, and that it is worth another try", async (t) => {
  const { server } = await openPool();
  await server.close();
  const starting = launcher().start(request("beam:env:external:v1", externalPayload(server.address)));
  const error = await t.throwsAsync(starting, { instanceOf: WeirError });
  t.true(error?.retry);
  t.true(error?.message.includes(`The worker pool of the EXTERNAL environment at ${server.address} did not start`));
});

test("EXTERNAL passes on why a pool refuses", async (t) => {
  const { server } = await openPool("Traceback: no python");
  const starting = launcher().start(request("beam:env:external:v1", externalPayload(server.address)));
  await t.throwsAsync(starting, { message: /could not start an SDK harness: Traceback: no python/ });
  await server.close();
});

test("AnyOf prefers a pool to a command to an image, and takes the first that can be had", async (t) => {
  const environment = (urn: string, payload: Uint8Array) => ({
    urn,
    payload,
    displayData: [],
    capabilities: [],
    dependencies: [],
    resourceHints: {},
  });
  const { server } = await openPool();
  await server.close();
  const command = await script("any-boot", "exit 9");
  const payload = AnyOfEnvironmentPayload.encode({
    environments: [
      environment("beam:env:docker:v1", DockerPayload.encode({ containerImage: "image" }).finish()),
      environment("beam:env:process:v1", processPayload("/no/such/boot")),
      environment("beam:env:process:v1", processPayload(command)),
      environment("beam:env:external:v1", externalPayload(server.address)),
    ],
  }).finish();
  const anyOf = request("beam:env:anyof:v1", payload);
  t.deepEqual(
    alternatives(anyOf.environment).map(({ urn }) => urn),
    ["beam:env:external:v1", "beam:env:process:v1", "beam:env:process:v1", "beam:env:docker:v1"],
  );
  const harness = await launcher().start(anyOf);
  t.regex((await harness.exited).reason, /any-boot" of the PROCESS environment exited with code 9/);
});

test("an environment of Python's own runner is refused by name", async (t) => {
  const starting = launcher().start(request("beam:env:embedded_python:v1", new Uint8Array()));
  await t.throwsAsync(starting, { message: /beam:env:embedded_python:v1 cannot be started by a worker/ });
});

test("docker's command line: host network, the boot arguments, a container that can be removed by name", (t) => {
  const run = {
    image: "apache/beam_python3.11_sdk:2.77.0",
    container: "weir-1-h",
    harnessId: "h",
    endpoints: request("", new Uint8Array()).endpoints,
  };
  t.deepEqual(dockerRunArguments({ ...run, platform: "linux" }), [
    "run",
    "--rm",
    "--init",
    "--name=weir-1-h",
    "--network=host",
    "--label=org.apache.beam.runner=weir",
    "apache/beam_python3.11_sdk:2.77.0",
    "--id=h",
    "--provision_endpoint=p:3",
    "--logging_endpoint=l:2",
    "--control_endpoint=c:1",
    "--artifact_endpoint=a:4",
  ]);
  const endpoints = { ...run.endpoints, control: "localhost:99" };
  const elsewhere = dockerRunArguments({ ...run, endpoints, platform: "darwin" });
  t.true(elsewhere.includes("--control_endpoint=host.docker.internal:99"));
  t.false(elsewhere.includes("--network=host"));
});

test("stock Python images are known by name", (t) => {
  t.is(stockPythonVersion("apache/beam_python3.11_sdk:2.77.0"), "3.11");
  t.is(stockPythonVersion("docker.io/apache/beam_python3.9_sdk"), "3.9");
  t.is(stockPythonVersion("gcr.io/mine/beam_python3.11_sdk:2.77.0"), undefined);
  t.is(stockPythonVersion("apache/beam_java17_sdk:2.77.0"), undefined);
});

test.serial("DOCKER runs the image, tells what the container printed, and removes it", async (t) => {
  const calls = join(directory, "docker-calls");
  const bin = join(directory, "bin");
  await mkdir(bin, { recursive: true });
  const path = await script(
    "bin/docker",
    `echo "$*" >>${calls}; case "$1" in run) echo "container says no"; exit 5;; image) exit 1;; esac`,
  );
  t.truthy(path);
  const before = process.env["PATH"];
  process.env["PATH"] = `${bin}:${before}`;
  try {
    const payload = DockerPayload.encode({ containerImage: "some/image" }).finish();
    const harness = await launcher().start(request("beam:env:docker:v1", payload));
    const exit = await harness.exited;
    t.is(exit.reason, "The container of image some/image exited with code 5");
    t.deepEqual(exit.lastOutput, ["container says no"]);
  } finally {
    process.env["PATH"] = before;
  }
  const lines = (await readFile(calls, "utf8")).trim().split("\n");
  t.regex(lines[0] ?? "", /^version/);
  t.is(lines[1], "image inspect some/image");
  t.is(lines[2], "pull --quiet some/image");
  t.regex(lines[3] ?? "", /^run --rm .* some\/image --id=harness-1/);
  t.regex(lines[4] ?? "", /^rm --force --volumes weir-\d+-harness-1/);
});

test.serial("DOCKER without an engine says what to do instead; a stock image can be a local Python", async (t) => {
  const empty = join(directory, "empty");
  await mkdir(empty, { recursive: true });
  const main = join(directory, "weir-docker.js");
  await writeFile(main, "console.log(process.argv[2], process.argv[3], process.env.WEIR_PYTHON_VERSION)");
  const payload = DockerPayload.encode({ containerImage: "apache/beam_python3.11_sdk:2.77.0" }).finish();
  const before = process.env["PATH"];
  process.env["PATH"] = empty;
  try {
    const starting = launcher().start(request("beam:env:docker:v1", payload));
    const error = await t.throwsAsync(starting, { instanceOf: WeirError });
    t.regex(error?.message ?? "", /no `docker` command.*--environment_type=LOOPBACK.*--docker-images-as-process/);
    const harness = await launcher(true, main).start(request("beam:env:docker:v1", payload));
    t.deepEqual((await harness.exited).lastOutput, ["boot python 3.11"]);
  } finally {
    process.env["PATH"] = before;
  }
});
