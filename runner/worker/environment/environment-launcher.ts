/**
 * Starts SDK harnesses by the URN of their environment. One file per kind of environment; this one only chooses.
 *
 * Invariant: after `stop()` of a started harness no process, container or temporary file of it is left.
 */
import { userError } from "../../base/errors.ts";
import type { HarnessLauncher, HarnessStart, StartedHarness } from "../task/ports.ts";
import { startAnyOf } from "./any-of.ts";
import { startDocker } from "./docker.ts";
import { startExternal } from "./external.ts";
import type { HarnessLauncherInit } from "./harness-launcher-init.ts";
import { startProcess } from "./process.ts";

export type { HarnessLauncherInit };

export function createHarnessLauncher(init: HarnessLauncherInit): HarnessLauncher {
  const start = (request: HarnessStart): Promise<StartedHarness> => {
    const { urn } = request.environment;
    switch (urn) {
      case "beam:env:external:v1":
        return startExternal(request);
      case "beam:env:process:v1":
        return startProcess(init, request);
      case "beam:env:docker:v1":
        return startDocker(init, request);
      case "beam:env:anyof:v1":
        return startAnyOf(start, request);
      default:
        throw userError(
          "UNIMPLEMENTED",
          `The environment ${urn} cannot be started by a worker${urn.includes("embedded") ? ": it lives inside of Python's own runner" : ""}.`,
          "Use --environment_type=LOOPBACK, PROCESS, EXTERNAL or DOCKER.",
        );
    }
  };
  return {
    start: async (request) => {
      request.signal.throwIfAborted();
      return await start(request);
    },
  };
}
