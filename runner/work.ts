/** Runs one worker after the other for a job server: the composition root of `weir worker`. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { randomHex, systemClock } from "./base/clock.ts";
import type { WorkerId } from "./base/ids.ts";
import { limitsFor } from "./base/limits.ts";
import { createLog } from "./base/log.ts";
import { ResourceScope } from "./base/resource-scope.ts";
import { makeTemporaryDirectory } from "./base/temporary-directory.ts";
import { stopRequested } from "./stop-requested.ts";
import type { WorkerFlags } from "./worker-flags.ts";
import { LeaderEpochs } from "./worker/coordinator-link.ts";
import { createHarnessLauncher } from "./worker/environment/environment-launcher.ts";
import { SessionGuard } from "./worker/environment/session-guard.ts";
import { runSuccessiveWorkers } from "./worker/successive-workers.ts";
import { Worker } from "./worker/worker.ts";

const MIB = 1024 * 1024;

export interface WorkerCommandFlags extends WorkerFlags {
  readonly coordinator: string;
  readonly workerId: string | undefined;
  readonly host: string;
  readonly local: boolean;
  readonly reconnectSeconds: number;
}

/**
 * Returns when the process was asked to end, or its job server is gone for good, and everything is closed.
 * @param main of the command line, which `weir boot` runs; its version is told to job servers
 */
export async function work(
  flags: WorkerCommandFlags,
  main: { readonly path: string; readonly version: string },
): Promise<void> {
  const firstId = (flags.workerId ?? `worker-${randomHex(4)}`) as WorkerId;
  const log = createLog(firstId, flags.logLevel, flags.logFormat);
  const stop = stopRequested(flags.local);
  const temporaryDirectory = makeTemporaryDirectory("worker");
  const scope = new ResourceScope();
  scope.defer(() => rmSync(temporaryDirectory, { recursive: true, force: true }));
  try {
    const guard = scope.own(SessionGuard.open({ directory: temporaryDirectory, log }));
    const launcher = createHarnessLauncher({
      nodePath: process.execPath,
      weirMainPath: main.path,
      dockerImagesAsProcess: flags.dockerImagesAsProcess,
      temporaryDirectory: join(temporaryDirectory, "harnesses"),
      guard,
      clock: systemClock,
      log,
    });
    const epochs = new LeaderEpochs();
    const reason = await runSuccessiveWorkers({
      open: (ordinal) =>
        Worker.open({
          workerId: ordinal === 0 ? firstId : (`worker-${randomHex(4)}` as WorkerId),
          coordinator: flags.coordinator,
          host: flags.host,
          slots: flags.workerSlots,
          local: flags.local,
          epochs,
          limits: limitsFor(flags.workerMemoryMb * MIB, flags.maxBundleAttempts, flags.limit),
          spillDirectory: join(temporaryDirectory, `spill-${ordinal}`),
          launcher,
          keepsStandby: flags.standbyHarness,
          version: main.version,
          clock: systemClock,
          log,
        }),
      stop,
      // The next job server starts its local workers itself.
      reconnectMs: flags.local ? 0 : flags.reconnectSeconds * 1_000,
      clock: systemClock,
      log,
    });
    log.debug({ reason }, "ending");
  } finally {
    await scope.close();
  }
}
