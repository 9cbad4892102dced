/**
 * DOCKER environments (beam:env:docker:v1): the image's boot command in a container, by the `docker` CLI. The CLI runs
 * in the foreground under our supervision, so that the container's output and its end are seen; the container is
 * removed by name afterwards, whatever became of the CLI.
 */
import { execFile } from "node:child_process";
import { DockerPayload } from "../../../proto/gen/beam_runner_api.ts";
import { WeirError, userError } from "../../base/errors.ts";
import type { HarnessEndpoints, HarnessStart, StartedHarness } from "../task/ports.ts";
import { bootArguments } from "./boot-arguments.ts";
import type { HarnessLauncherInit } from "./harness-launcher-init.ts";
import { harnessDirectory, startBootPython } from "./process.ts";
import { startSupervised } from "./supervised-process.ts";

const ASK_ENGINE_MS = 10_000;
/** A Python SDK image is over a gigabyte. */
const PULL_MS = 20 * 60_000;
const REMOVE_MS = 30_000;
/** The CLI passes SIGTERM on; `docker stop` gives a container as long. */
const GRACE_MS = 10_000;

/** @throws WeirError when there is no engine or the image cannot be had. */
export async function startDocker(init: HarnessLauncherInit, request: HarnessStart): Promise<StartedHarness> {
  const image = DockerPayload.decode(request.environment.payload).containerImage;
  if (image === "")
    throw userError("INVALID_ARGUMENT", "The DOCKER environment names no image.", "Give --environment_config=IMAGE.");
  const pythonVersion = stockPythonVersion(image);
  if (init.dockerImagesAsProcess && pythonVersion !== undefined) return startBootPython(init, request, pythonVersion);
  await assertEngine(image, request.signal);
  await pullMissing(image, request.signal);
  const { harnessId, endpoints } = request;
  const container = containerName(harnessId);
  return startSupervised({
    what: `The container of image ${image}`,
    command: "docker",
    args: dockerRunArguments({ image, container, harnessId, endpoints, platform: process.platform }),
    env: process.env,
    directory: await harnessDirectory(init, harnessId),
    graceMs: GRACE_MS,
    clock: init.clock,
    guard: init.guard,
    log: init.log.child({ harness: harnessId, image }),
    // Fails when the container is gone already, which is what `--rm` is for.
    afterEnd: () => docker(["rm", "--force", "--volumes", container], REMOVE_MS).then(noop, noop),
  });
}

/** The Python version of Beam's own Python images, for which a local Python with apache_beam is as good. Pure. */
export function stockPythonVersion(image: string): string | undefined {
  return /^(?:docker\.io\/)?apache\/beam_python(3\.\d+)_sdk(?::[\w.-]+)?(?:@sha256:[0-9a-f]+)?$/.exec(image)?.[1];
}

export interface DockerRun {
  readonly image: string;
  readonly container: string;
  readonly harnessId: string;
  readonly endpoints: HarnessEndpoints;
  readonly platform: NodeJS.Platform;
}

/** The arguments of the `docker` command. Pure. */
export function dockerRunArguments(run: DockerRun): string[] {
  // Docker Desktop has no host network to speak of; there the host has a name of its own.
  const hostNetwork = run.platform === "linux";
  const reachable = (address: string) =>
    hostNetwork ? address : address.replace(/^(localhost|127\.0\.0\.1|\[::1\]):/, "host.docker.internal:");
  const { control, logging, provision, artifact, status } = run.endpoints;
  const endpoints: HarnessEndpoints = {
    control: reachable(control),
    logging: reachable(logging),
    provision: reachable(provision),
    artifact: reachable(artifact),
    status: reachable(status),
  };
  return [
    "run",
    "--rm",
    "--init",
    `--name=${run.container}`,
    ...(hostNetwork ? ["--network=host"] : []),
    "--label=org.apache.beam.runner=weir",
    run.image,
    ...bootArguments(run.harnessId, endpoints),
  ];
}

/** Names of containers are [a-zA-Z0-9][a-zA-Z0-9_.-]+. */
function containerName(harnessId: string): string {
  return `weir-${process.pid}-${harnessId.replace(/[^\w.-]/g, "_")}`;
}

async function assertEngine(image: string, signal: AbortSignal): Promise<void> {
  try {
    await docker(["version", "--format", "{{.Server.Version}}"], ASK_ENGINE_MS, signal);
  } catch (failure) {
    signal.throwIfAborted();
    throw new WeirError({
      code: "FAILED_PRECONDITION",
      domain: "user",
      message: `The DOCKER environment with image ${image} cannot be started: ${noEngineReason(failure)}.`,
      hint:
        "Submit with --environment_type=LOOPBACK, or PROCESS with " +
        `--environment_config='{"command":"weir boot python"}', or start Weir with --docker-images-as-process to run ` +
        "Beam's stock Python images with a local Python.",
      cause: failure,
    });
  }
}

function noEngineReason(failure: unknown): string {
  if ((failure as NodeJS.ErrnoException).code === "ENOENT") return "there is no `docker` command on this machine";
  const said = ((failure as { stderr?: string }).stderr ?? "").trim().split("\n").at(-1) ?? "";
  return `the \`docker\` command reaches no engine${said === "" ? "" : ` (${said.slice(0, 500)})`}`;
}

async function pullMissing(image: string, signal: AbortSignal): Promise<void> {
  try {
    await docker(["image", "inspect", image], ASK_ENGINE_MS, signal);
    return;
  } catch {
    signal.throwIfAborted();
  }
  try {
    await docker(["pull", "--quiet", image], PULL_MS, signal);
  } catch (failure) {
    signal.throwIfAborted();
    const said = ((failure as { stderr?: string }).stderr ?? "").trim().slice(-2_000);
    throw new WeirError({
      code: "FAILED_PRECONDITION",
      domain: "user",
      message: `The image ${image} of the DOCKER environment is not here and cannot be pulled: ${said || (failure as Error).message}`,
      cause: failure,
    });
  }
}

function docker(args: readonly string[], timeoutMs: number, signal?: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout: timeoutMs, maxBuffer: 4 * 1024 * 1024, ...(signal === undefined ? {} : { signal }) };
    execFile("docker", args, options, (failure, stdout, stderr) => {
      if (failure === null) resolve(stdout);
      else reject(Object.assign(failure, { stderr }));
    });
  });
}

function noop(): void {}
