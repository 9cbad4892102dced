/**
 * Weir's command line and composition root: the one place that picks concrete implementations and ends the process.
 *
 * Invariant: `serve` writes one JSON line on stdout, when it is ready, and nothing else; logs and errors go to stderr.
 */
import { readFile, realpath } from "node:fs/promises";
import { rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Command, CommanderError, Option } from "commander";
import { randomHex, systemClock } from "./base/clock.ts";
import { userError, WeirError } from "./base/errors.ts";
import type { WorkerId } from "./base/ids.ts";
import { LIMIT_NAMES, limitsFor, SERVER_LIMIT_NAMES, serverLimits } from "./base/limits.ts";
import { createLog, type Log } from "./base/log.ts";
import { ResourceScope } from "./base/resource-scope.ts";
import { makeTemporaryDirectory } from "./base/temporary-directory.ts";
import { buildExecutionGraph } from "./graph/build-execution-graph.ts";
import { explainPlan } from "./graph/explain-plan.ts";
import { checkpointCommand } from "./inspect/checkpoint-command.ts";
import { addJobCommands } from "./job-server/job-commands.ts";
import { defaultArtifactsDirectory, defaultDataDirectory } from "./job-server/default-directories.ts";
import type { OnShutdown } from "./job-server/end-jobs.ts";
import { ExpansionService } from "./job-server/expansion-service.ts";
import { JobServer } from "./job-server/job-server.ts";
import { LocalWorkers } from "./job-server/local-workers.ts";
import { Scheduler } from "./job-server/scheduler.ts";
import { DEFAULT_STUCK_AFTER_MS } from "./job-server/streaming-execution.ts";
import { WorkerRegistry } from "./job-server/worker-registry.ts";
import { addWorkerOptions, integer, port, type WorkerFlags, yesOrNo } from "./worker-flags.ts";

const VERSION = "0.1.0";
const MIB = 1024 * 1024;
/** A job waits so long for its first worker. */
const WORKER_WAIT_MS = 30_000;
const MAIN_PATH = fileURLToPath(import.meta.url);
/**
 * A worker's memory is buffers more than objects: they count in the heap's own limit instead of forcing a full collection
 * for every 64 MiB of those, however little else there is to mark (a third less CPU in a GroupByKey of 100 MB). More room
 * for young objects saves no CPU then, and is taken up little by little, so that memory seems to grow for ten minutes.
 */
const WORKER_HEAP = ["--max-semi-space-size=8", "--external-memory-accounted-in-global-limit"];

interface ServeFlags extends WorkerFlags {
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

async function serve(flags: ServeFlags): Promise<void> {
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
        command: workerCommand(server.jobAddress, flags),
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

function workerCommand(coordinator: string, flags: WorkerFlags): [string, ...string[]] {
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
  return [process.execPath, ...process.execArgv, ...WORKER_HEAP, MAIN_PATH, "worker", ...switches, ...args];
}

interface WorkerCommandFlags extends WorkerFlags {
  readonly coordinator: string;
  readonly workerId: string | undefined;
  readonly host: string;
  readonly local: boolean;
  readonly reconnectSeconds: number;
}

async function work(flags: WorkerCommandFlags): Promise<void> {
  const firstId = (flags.workerId ?? `worker-${randomHex(4)}`) as WorkerId;
  const log = createLog(firstId, flags.logLevel, flags.logFormat);
  // Loaded here, so that `serve` and the small commands start without the worker's code.
  const [{ Worker }, { LeaderEpochs }, { runSuccessiveWorkers }, { createHarnessLauncher }, { SessionGuard }] =
    await Promise.all([
      import("./worker/worker.ts"),
      import("./worker/coordinator-link.ts"),
      import("./worker/successive-workers.ts"),
      import("./worker/environment/environment-launcher.ts"),
      import("./worker/environment/session-guard.ts"),
    ]);
  const stop = stopRequested(flags.local);
  const temporaryDirectory = makeTemporaryDirectory("worker");
  const scope = new ResourceScope();
  scope.defer(() => rmSync(temporaryDirectory, { recursive: true, force: true }));
  try {
    const guard = scope.own(SessionGuard.open({ directory: temporaryDirectory, log }));
    const launcher = createHarnessLauncher({
      nodePath: process.execPath,
      weirMainPath: MAIN_PATH,
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
          version: VERSION,
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

/** Resolves with why the process is to end: a signal, or the loss of the process that started it. */
function stopRequested(watchStdin = false): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve(signal));
    // The launcher in bin/ runs us on another Node; when it is killed outright, only the channel's end tells.
    if (process.connected) process.once("disconnect", () => resolve("the launcher is gone"));
    if (watchStdin) process.stdin.once("close", () => resolve("the job server is gone")).resume();
  });
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function serveCommand(): Command {
  return addWorkerOptions(new Command("serve"), [...new Set([...LIMIT_NAMES, ...SERVER_LIMIT_NAMES])])
    .description("Run the job server and its local workers.")
    .option("--job-host <host>", "where all ports are bound", "localhost")
    .option("--job-port <port>", "Job API, and workers; 0 for any free port", port, 8099)
    .option("--artifact-port <port>", "artifact staging and retrieval; 0 for any free port", port, 8098)
    .option(
      "--expansion-port <port>",
      "Python transforms for other SDKs' pipelines, started when first asked for; 0 for any free port, -1 for none",
      integer(-1, 65_535),
      8097,
    )
    .option("--artifacts-dir <folder>", "where staged files are kept", defaultArtifactsDirectory())
    .option(
      "--data-dir <folder>",
      "jobs' history and checkpoints (default: the user's state folder; temporary with --job-port 0)",
    )
    .option(
      "--recover-from <path>",
      "go on with the jobs that another server, gone with its disk, has left in this --state_backend_storage_path",
    )
    .option("--workers <count>", "local worker processes", integer(0, 256), Math.max(1, availableParallelism() >> 1))
    .option("--history-size <count>", "finished jobs that are kept", integer(0, 100_000), 10)
    .option(
      "--stuck-after <seconds>",
      "a bundle or watermark that stands still for so long is told of in a job message",
      integer(1, 86_400),
      DEFAULT_STUCK_AFTER_MS / 1_000,
    )
    .option("--clean-artifacts-per-job [boolean]", "remove a job's staged files when it is over", yesOrNo, true)
    .addOption(
      new Option(
        "--on-shutdown <what>",
        "of streaming jobs with checkpoints when the server is told to end: cancel them, or suspend them until the next server starts on the --data-dir (default: suspend with --data-dir)",
      ).choices(["suspend", "cancel"]),
    )
    .addOption(new Option("--flink-master <address>").hideHelp())
    .addOption(new Option("--flink-conf-dir <folder>").hideHelp())
    .action((flags: ServeFlags, command: Command) =>
      serve({ ...flags, expansionPortIsDefault: command.getOptionValueSource("expansionPort") === "default" }),
    );
}

function workerCommandLine(): Command {
  return addWorkerOptions(new Command("worker"), LIMIT_NAMES)
    .description("Run one worker for a job server.")
    .requiredOption("--coordinator <host:port>", "the job server's job port")
    .option("--host <host>", "where its exchange and Fn API are bound, as other workers reach it", "localhost")
    .option(
      "--reconnect-seconds <seconds>",
      "how long a job server that is gone is waited for; 0: the worker ends with it",
      integer(0, 1_000_000),
      600,
    )
    .addOption(new Option("--worker-id <id>").hideHelp())
    .addOption(new Option("--local").default(false).hideHelp())
    .action((flags: WorkerCommandFlags) => work(flags));
}

/** Runs the command line. Sets the process' exit code; throws nothing. */
export async function runCli(args: readonly string[]): Promise<void> {
  const program = new Command("weir").description("An Apache Beam portable runner.").version(VERSION).exitOverride();
  program.configureOutput({ writeErr: (text) => process.stderr.write(text) });
  // A reader such as `head` has seen enough.
  process.stdout.on("error", (failure: NodeJS.ErrnoException) => process.exit(failure.code === "EPIPE" ? 0 : 1));
  program.addCommand(serveCommand());
  program.addCommand(workerCommandLine());
  program
    .command("plan <file>")
    .description("Print the execution graph of a pipeline proto.")
    .action(async (file: string) => void process.stdout.write(explainPlan(buildExecutionGraph(await readFile(file)))));
  addJobCommands(program, print);
  program.addCommand(checkpointCommand(print));
  program
    .command("boot")
    .description("Start an SDK harness as a Beam container's boot does; a PROCESS environment's command.")
    .addCommand(bootPythonCommand());
  for (const command of program.commands) command.exitOverride();
  await runProgram(program, args);
}

function bootPythonCommand(): Command {
  return new Command("python")
    .description("The boot command that the Python wheel lacks.")
    .argument("[args...]")
    .allowUnknownOption()
    .helpOption(false)
    .action(async (args: string[]) => {
      const { runBootPython } = await import("./worker/environment/boot-python.ts");
      process.exitCode = await runBootPython(args);
    });
}

async function runProgram(program: Command, args: readonly string[]): Promise<void> {
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (thrown) {
    if (thrown instanceof CommanderError) {
      // Commander has printed it; a wrong command line is 2, help and version are 0.
      process.exitCode = thrown.exitCode === 0 ? 0 : 2;
      return;
    }
    const error = WeirError.from(thrown);
    const stack = error.code === "INTERNAL" && thrown instanceof Error ? `\n${thrown.stack}` : "";
    process.stderr.write(`weir: ${error.message}${stack}\n`);
    process.exitCode = 1;
  }
  await new Promise((resolve) => process.stdout.write("", resolve));
  // Whatever still holds the loop, such as an inherited pipe, is no reason to stay.
  process.exit();
}

if (process.argv[1] !== undefined && pathToFileURL(await realpath(process.argv[1])).href === import.meta.url)
  await runCli(process.argv.slice(2));
