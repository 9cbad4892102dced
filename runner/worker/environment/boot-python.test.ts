/** Real harnesses: `boot python` starts Beam's own sdk_worker_main against the side services and a stub control service. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import type * as grpc from "@grpc/grpc-js";
import test from "ava";
import { ArtifactRetrievalServiceDefinition, type GetArtifactRequest } from "../../../proto/gen/beam_artifact_api.ts";
import { BeamFnControlDefinition } from "../../../proto/gen/beam_fn_api.ts";
import { ProvisionInfo } from "../../../proto/gen/beam_provision_api.ts";
import {
  ArtifactFilePayload,
  type ArtifactInformation,
  ArtifactStagingToRolePayload,
  ProcessPayload,
} from "../../../proto/gen/beam_runner_api.ts";
import { systemClock } from "../../base/clock.ts";
import { type GenericService, GrpcServer, unaryHandler } from "../../base/grpc.ts";
import type { HarnessId, JobId } from "../../base/ids.ts";
import { silentLog } from "../../base/log.ts";
import { type LogEntryPlain, loggingService } from "../fn-api/logging-service.ts";
import { provisionService } from "../fn-api/provision-service.ts";
import { workerStatusService } from "../fn-api/worker-status-service.ts";
import type { HarnessStart } from "../task/ports.ts";
import { createHarnessLauncher } from "./environment-launcher.ts";

const PYTHON = resolve(process.env["WEIR_TEST_PYTHON"] ?? ".venv/bin/python");
const directory = await mkdtemp(join(tmpdir(), "weir-boot-test-"));
const main = join(directory, "main.ts");
const bootModule = new URL("boot-python.ts", import.meta.url).href;
await writeFile(
  main,
  `import { runBootPython } from "${bootModule}";\nprocess.exitCode = await runBootPython(process.argv.slice(4));\n`,
);
process.env["WEIR_BOOT_CACHE"] = join(directory, "cache");

test.after.always(() => rm(directory, { recursive: true, force: true }));

const launcher = createHarnessLauncher({
  log: silentLog(),
  clock: systemClock,
  nodePath: process.execPath,
  weirMainPath: main,
  dockerImagesAsProcess: false,
  pythonPath: PYTHON,
  temporaryDirectory: join(directory, "harnesses"),
});

/** A runner as far as a harness that gets no work can see; `files` are staged, `damaged` ones arrive changed. */
async function openRunner(files: Readonly<Record<string, Buffer>>, options: object = {}, damaged = new Set<string>()) {
  const connected = new Map<string, PromiseWithResolvers<void>>();
  const connection = (id: string) => connected.get(id) ?? connected.set(id, Promise.withResolvers<void>()).get(id);
  const entries: LogEntryPlain[] = [];
  const status = workerStatusService({ clock: systemClock });
  const control = (call: grpc.ServerDuplexStream<unknown, unknown>) => {
    connection(String(call.metadata.get("worker_id")[0]))?.resolve();
    call.on("end", () => call.end());
    call.on("error", () => undefined);
    call.resume();
  };
  const getArtifact = (call: grpc.ServerWritableStream<GetArtifactRequest, { data: Uint8Array }>) => {
    const { path } = ArtifactFilePayload.decode(call.request.artifact?.typePayload ?? new Uint8Array());
    call.write({ data: damaged.has(path) ? Buffer.from("damaged") : (files[path] ?? Buffer.alloc(0)) });
    call.end();
  };
  const resolveArtifacts = unaryHandler((request: { artifacts: unknown[] }) => ({ replacements: request.artifacts }));
  const provided: { info?: ProvisionInfo } = {};
  const implementation = (handlers: object) => handlers as unknown as grpc.UntypedServiceImplementation;
  const server = await GrpcServer.open(
    [
      {
        service: BeamFnControlDefinition as unknown as GenericService,
        handlers: implementation({ control, getProcessBundleDescriptor: unaryHandler(() => ({})) }),
      },
      {
        service: ArtifactRetrievalServiceDefinition as unknown as GenericService,
        handlers: implementation({ getArtifact, resolveArtifacts }),
      },
      loggingService({ onEntries: (_harnessId, list) => void entries.push(...list) }),
      provisionService({ infoFor: () => provided.info }),
      status.served,
    ],
    "localhost",
    0,
  );
  const url = { url: server.address };
  provided.info = ProvisionInfo.fromPartial({
    pipelineOptions: { options },
    controlEndpoint: url,
    loggingEndpoint: url,
    statusEndpoint: url,
    artifactEndpoint: url,
    dependencies: Object.entries(files).map(([name, data]) => stagedArtifact(name, data)),
    runnerCapabilities: ["beam:protocol:control_request_elements_embedding:v1"],
  });
  const request = (harnessId: string): HarnessStart => ({
    jobId: "job" as JobId,
    harnessId: harnessId as HarnessId,
    environment: {
      urn: "beam:env:process:v1",
      payload: ProcessPayload.encode({ os: "", arch: "", command: "weir boot python", env: {} }).finish(),
      resourceHints: [],
      capabilities: [],
      dependencies: [],
    },
    endpoints: {
      control: server.address,
      logging: server.address,
      provision: server.address,
      artifact: server.address,
      status: server.address,
    },
    pipelineOptions: {},
    signal: new AbortController().signal,
  });
  return { server, status, entries, request, connected: (id: string) => connection(id)?.promise };
}

function stagedArtifact(name: string, data: Buffer): ArtifactInformation {
  const sha256 = createHash("sha256").update(data).digest("hex");
  return {
    typeUrn: "beam:artifact:type:file:v1",
    typePayload: ArtifactFilePayload.encode({ path: name, sha256 }).finish(),
    roleUrn: "beam:artifact:role:staging_to:v1",
    rolePayload: ArtifactStagingToRolePayload.encode({ stagedName: name }).finish(),
  };
}

/** A wheel with one module that says in the harness's log where it was imported from. */
async function makeWheel(): Promise<{ name: string; data: Buffer }> {
  const name = "weir_probe-1.0-py3-none-any.whl";
  const path = join(directory, name);
  const code = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
  wheel.writestr("weir_probe.py", "import logging, sys\\nlogging.warning('probe imported in %s', sys.prefix)\\n")
  wheel.writestr("weir_probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: weir-probe\\nVersion: 1.0\\n")
  wheel.writestr("weir_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
  wheel.writestr("weir_probe-1.0.dist-info/RECORD", "")
`;
  await promisify(execFile)(PYTHON, ["-c", code, path]);
  return { name, data: await readFile(path) };
}

async function until(
  condition: () => boolean,
  failed: Promise<{ reason: string; lastOutput: readonly string[] }>,
): Promise<void> {
  let exit: { reason: string; lastOutput: readonly string[] } | undefined;
  void failed.then((value) => (exit = value));
  while (!condition()) {
    if (exit !== undefined) throw new Error(`${exit.reason}\n${exit.lastOutput.join("\n")}`);
    await systemClock.sleep(20);
  }
}

test.serial("a real Python harness starts, logs, tells its status, and leaves nothing behind", async (t) => {
  const runner = await openRunner({ "submission_environment_dependencies.txt": Buffer.from("x==1\n") });
  const harness = await launcher.start(runner.request("plain"));
  let connected = false;
  void runner.connected("plain")?.then(() => (connected = true));
  await until(() => connected, harness.exited);
  await until(
    () => runner.entries.some(({ message }) => message.includes("Python sdk harness starting")),
    harness.exited,
  );
  await until(() => runner.status.has("plain" as HarnessId), harness.exited);
  t.regex(await runner.status.requestStatus("plain" as HarnessId, 30_000), /THREAD DUMP|Thread/);
  const session = runner.entries.find(({ message }) => message.startsWith("semi_persistent_directory:"));
  const folder = session?.message.split(": ")[1] ?? "";
  t.true(existsSync(join(folder, "staged", "submission_environment_dependencies.txt")));
  t.false(existsSync(join(directory, "cache")));
  await harness.stop();
  t.false(existsSync(folder));
  t.regex((await harness.exited).reason, /"weir boot python" of the PROCESS environment (was ended|exited)/);
  await runner.server.close();
});

test.serial(
  "packages are installed once for all harnesses of the same files, into an environment of their own",
  async (t) => {
    const wheel = await makeWheel();
    const files = { "extra_packages.txt": Buffer.from(`${wheel.name}\n`), [wheel.name]: wheel.data };
    const filler = "o".repeat(200_000);
    const runner = await openRunner(files, { beam_plugins: ["weir_probe"], filler });
    const harnesses = await Promise.all(["one", "two"].map((id) => launcher.start(runner.request(id))));
    const probes = () => runner.entries.filter(({ message }) => message.startsWith("probe imported in"));
    const anyLost = Promise.race(harnesses.map(({ exited }) => exited));
    await until(() => probes().length === 2, anyLost);
    const environments = (await readdir(join(directory, "cache"))).filter((name) => /^[0-9a-f]{32}$/.test(name));
    t.is(environments.length, 1);
    const prefix = join(directory, "cache", environments[0] ?? "");
    t.deepEqual(
      probes().map(({ message }) => message),
      [`probe imported in ${prefix}`, `probe imported in ${prefix}`],
    );
    await Promise.all(harnesses.map((harness) => harness.stop()));
    t.deepEqual(await readdir(join(directory, "harnesses")), []);
    await runner.server.close();
  },
);

test.serial(
  "a package that cannot be installed ends the boot with pip's last lines, and leaves no environment",
  async (t) => {
    const runner = await openRunner({
      "extra_packages.txt": Buffer.from("bad.whl\n"),
      "bad.whl": Buffer.from("no zip"),
    });
    const before = existsSync(join(directory, "cache")) ? await readdir(join(directory, "cache")) : [];
    const harness = await launcher.start(runner.request("bad"));
    const exit = await harness.exited;
    t.regex(exit.reason, /exited with code 1$/);
    t.regex(
      exit.lastOutput.join("\n"),
      /bad\.whl.*\n(.*\n)*weir boot python: pip could not install extra package bad\.whl \(exit 1\); its own output is above/,
    );
    const environments = (names: readonly string[]) => names.filter((name) => /^[0-9a-f]{32}$/.test(name));
    t.deepEqual(environments(await readdir(join(directory, "cache"))), environments(before));
    await runner.server.close();
  },
);

test.serial("a damaged file ends the boot", async (t) => {
  const files = { "data.txt": Buffer.from("whole") };
  const runner = await openRunner(files, {}, new Set(["data.txt"]));
  const exit = await (await launcher.start(runner.request("damaged"))).exited;
  t.regex(
    exit.lastOutput.join("\n"),
    /The staged file "data\.txt" is damaged: its sha256 is [0-9a-f]{64}, not [0-9a-f]{64}/,
  );
  await runner.server.close();
});
