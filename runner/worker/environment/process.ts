/**
 * PROCESS environments (beam:env:process:v1): the boot command of the payload, started on this machine with the
 * arguments of Beam's boot contract and the payload's environment variables.
 *
 * Beyond Beam: a command with blanks that is no file is split at them, and the command `weir` is this program, so that
 * `--environment_config='{"command":"weir boot python"}'` works without a script.
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { ProcessPayload } from "../../../proto/gen/beam_runner_api.ts";
import { WeirError, userError } from "../../base/errors.ts";
import type { HarnessStart, StartedHarness } from "../task/ports.ts";
import { bootArguments } from "./boot-arguments.ts";
import type { HarnessLauncherInit } from "./harness-launcher-init.ts";
import { startSupervised } from "./supervised-process.ts";

/** A harness finishes what it logs; whatever takes longer is stuck. */
const GRACE_MS = 5_000;

/** @throws WeirError when the payload has no command or it cannot be run. */
export async function startProcess(init: HarnessLauncherInit, request: HarnessStart): Promise<StartedHarness> {
  const payload = ProcessPayload.decode(request.environment.payload);
  if (payload.command.trim() === "")
    throw userError(
      "INVALID_ARGUMENT",
      "The PROCESS environment has no command.",
      `Give --environment_config='{"command":"/path/to/boot"}'; for Python "weir boot python" will do.`,
    );
  return startCommand(init, request, splitCommand(payload.command), payload.env);
}

/** The boot command that Weir brings, in place of an image whose Python is of `version`, such as "3.11". */
export function startBootPython(
  init: HarnessLauncherInit,
  request: HarnessStart,
  version: string,
): Promise<StartedHarness> {
  return startCommand(init, request, ["weir", "boot", "python"], { WEIR_PYTHON_VERSION: version });
}

async function startCommand(
  init: HarnessLauncherInit,
  request: HarnessStart,
  words: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<StartedHarness> {
  const { harnessId, endpoints } = request;
  const [command = "", ...args] = words[0] === "weir" ? [init.nodePath, init.weirMainPath, ...words.slice(1)] : words;
  const directory = await harnessDirectory(init, harnessId);
  return startSupervised({
    what: `The command ${JSON.stringify(words.join(" "))} of the PROCESS environment`,
    command,
    args: [...args, ...bootArguments(harnessId, endpoints, directory)],
    env: { ...process.env, ...(init.pythonPath === undefined ? {} : { WEIR_PYTHON: init.pythonPath }), ...env },
    directory,
    graceMs: GRACE_MS,
    clock: init.clock,
    guard: init.guard,
    log: init.log.child({ harness: harnessId }),
  });
}

/** The words of a command. A path with blanks in it is one word when there is such a file. */
function splitCommand(command: string): readonly string[] {
  return existsSync(command) ? [command] : command.trim().split(/\s+/);
}

/** A folder of the harness's own. @throws WeirError when the temporary directory cannot be written. */
export async function harnessDirectory(init: HarnessLauncherInit, harnessId: string): Promise<string> {
  try {
    await mkdir(init.temporaryDirectory, { recursive: true });
    return await mkdtemp(join(init.temporaryDirectory, `harness-${harnessId.replace(/[^\w.-]/g, "_")}-`));
  } catch (failure) {
    throw new WeirError({
      code: "FAILED_PRECONDITION",
      domain: "user",
      message: `No folder for an SDK harness can be made in ${init.temporaryDirectory}: ${(failure as Error).message}.`,
      cause: failure,
    });
  }
}
