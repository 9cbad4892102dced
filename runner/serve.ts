/** Runs the job server and its local workers: the composition root of `weir serve`. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "./base/clock.ts";
import { userError } from "./base/errors.ts";
import { LIMIT_NAMES, limitsFor, serverLimits } from "./base/limits.ts";
import { createLog, type Log } from "./base/log.ts";
import { ResourceScope } from "./base/resource-scope.ts";
import { buildExecutionGraph } from "./graph/build-execution-graph.ts";
import { defaultDataDirectory } from "./job-server/default-directories.ts";
import type { OnShutdown } from "./job-server/end-jobs.ts";
import { ExpansionService } from "./job-server/expansion-service.ts";
import { JobServer } from "./job-server/job-server.ts";
import { LocalWorkers } from "./job-server/local-workers.ts";
import { Scheduler } from "./job-server/scheduler.ts";
import { WorkerRegistry } from "./job-server/worker-registry.ts";
import { stopRequested } from "./stop-requested.ts";
import type { WorkerFlags } from "./worker-flags.ts";

const MIB = 1024 * 1024;
/** A job waits so long for its first worker. */
const WORKER_WAIT_MS = 30_000;
/**
 * A worker's memory is buffers more than objects: they count in the heap's own limit instead of forcing a full collection
 * for every 64 MiB of those, however little else there is to mark (a third less CPU in a GroupByKey of 100 MB). More room
 * for young objects saves no CPU then, and is taken up little by little, so that memory seems to grow for ten minutes.
 */
const WORKER_HEAP = ["--max-semi-space-size=8", "--external-memory-accounted-in-global-limit"];

export interface ServeFlags extends WorkerFlags {
  readonly jobHost: string;
  readonly jobPort: number;
  readonly artifactPort: number;
  /** Negative: off. */
  readonly expansionPort: number;
  /** The port was not asked for: where it is taken there is none. */
  readonly expansionPortIsDefault: boolean;
  readonly artifactsDir: string;
  readonly dataDir: string | undefined;
  readonly recoverFrom: string | undefined;
  readonly workers: number;
  readonly historySize: number;
  readonly stuckAfter: number;
  readonly cleanArtifactsPerJob: boolean;
  readonly onShutdown: OnShutdown | undefined;
  readonly flinkMaster: string | undefined;
  readonly flinkConfDir: string | undefined;
}

/**
 * Returns when the process was asked to end and everything is closed.
 * @param mainPath of the command line, which the local workers run
 * @throws WeirError for flags that contradict each other, and what cannot be opened
 */
export async function serve(flags: ServeFlags, mainPath: string): Promise<void> {
  const log = createLog("weir", flags.logLevel, flags.logFormat);
  // Refused here rather than by every worker that is started.
  limitsFor(flags.workerMemoryMb * MIB, flags.maxBundleAttempts, flags.limit);
  const limits = serverLimits(flags.limit);
  const scope = new ResourceScope();
  const stop = stopRequested();
  try {
    const data = flags.dataDir === undefined ? defaultDataDirectory(flags.jobPort) : undefined;
    if (data?.temporary === true && flags.onShutdown === "suspend")
      throw userError(
        "INVALID_ARGUMENT",
        "--on-shutdown suspend needs a folder that outlives the server: with --job-port 0 it is a temporary one.",
        "Give --data-dir, or a --job-port.",
      );
    if (data?.temporary === true) scope.defer(() => rmSync(data.path, { recursive: true, force: true }));
    let workers: WorkerRegistry | undefined;
    const server = scope.own(
      await JobServer.open({
        host: flags.jobHost,
        jobPort: flags.jobPort,
        artifactPort: flags.artifactPort,
        artifactsDirectory: flags.artifactsDir,
        dataDirectory: flags.dataDir ?? (data?.path as string),
        recoverFrom: flags.recoverFrom,
        historySize: flags.historySize,
        cleanArtifactsPerJob: flags.cleanArtifactsPerJob,
        onShutdown: flags.onShutdown ?? (flags.dataDir === undefined ? "cancel" : "suspend"),
        limits,
        buildGraph: buildExecutionGraph,
        openExecutor: ({ leaderEpoch }) => {
          const registry = new WorkerRegistry({ clock: systemClock, log, leaderEpoch });
          workers = registry;
          const defaultParallelism = Math.max(1, flags.workers) * flags.workerSlots;
          const executor = new Scheduler({
            registry,
            defaultParallelism,
            workerWaitMs: WORKER_WAIT_MS,
            localWorkerCount: flags.workers,
            metricsBytes: limits.metricsBytes,
            stuckAfterMs: flags.stuckAfter * 1_000,
            checkpointDirectory: join(flags.dataDir ?? (data?.path as string), "checkpoints"),
            savepointDirectory:
              data?.temporary === true ? undefined : join(flags.dataDir ?? (data?.path as string), "savepoints"),
            clock: systemClock,
            log,
          });
          return { executor, services: [registry.served] };
        },
        clock: systemClock,
        log,
      }),
    );
    const expansion = await openExpansion(flags, log);
    if (expansion !== undefined) scope.own(expansion);
    const localWorkers = scope.own(
      LocalWorkers.open({
        count: flags.workers,
        command: workerCommand(mainPath, server.jobAddress, flags),
        clock: systemClock,
        log,
      }),
    );
    workers?.listen({
      workerJoined: () => undefined,
      workerMessage: () => undefined,
      workerLost: ({ workerId }) => localWorkers.replace(workerId),
    });
    // Jobs end while their workers are still there; then the workers are let go, which is no loss to warn of.
    scope.defer(() => workers?.close());
    scope.own(server.jobs);
    if (flags.flinkMaster !== undefined || flags.flinkConfDir !== undefined)
      log.warn("--flink-master and --flink-conf-dir have no effect: Weir runs jobs itself");
    const { jobAddress: job, artifactAddress: artifact } = server;
    log.info({ job, artifact, expansion: expansion?.address, workers: flags.workers }, "ready");
    const addresses = { job, artifact, expansion: expansion?.address ?? null, http: null };
    process.stdout.write(`${JSON.stringify({ ready: true, ...addresses, pid: process.pid })}\n`);
    log.info({ reason: await stop }, "ending");
  } finally {
    await scope.close();
  }
}

async function openExpansion(flags: ServeFlags, log: Log): Promise<ExpansionService | undefined> {
  const { jobHost: host, expansionPort, expansionPortIsDefault } = flags;
  if (expansionPort < 0) return undefined;
  const start = async () => {
    const { startPythonExpansion } = await import("./worker/environment/python-expansion.ts");
    return startPythonExpansion({ clock: systemClock, log });
  };
  try {
    return await ExpansionService.open({ host, port: expansionPort, start, log });
  } catch (failure) {
    if (!expansionPortIsDefault) throw failure;
    log.warn({ err: failure }, "there is no expansion service");
    return undefined;
  }
}

function workerCommand(mainPath: string, coordinator: string, flags: WorkerFlags): [string, ...string[]] {
  const values = {
    "--coordinator": coordinator,
    "--worker-memory-mb": flags.workerMemoryMb,
    "--worker-slots": flags.workerSlots,
    "--max-bundle-attempts": flags.maxBundleAttempts,
    "--log-level": flags.logLevel,
    "--log-format": flags.logFormat,
  };
  const switches = ["--local", ...(flags.dockerImagesAsProcess ? ["--docker-images-as-process"] : [])];
  if (flags.standbyHarness) switches.push("--standby-harness");
  const args = Object.entries(values).flatMap(([name, value]) => [name, String(value)]);
  for (const name of LIMIT_NAMES)
    if (flags.limit[name] !== undefined) args.push("--limit", `${name}=${flags.limit[name]}`);
  return [process.execPath, ...process.execArgv, ...WORKER_HEAP, mainPath, "worker", ...switches, ...args];
}
