/**
 * Weir's command line: what each command does is loaded when it is the one (serve.ts, work.ts), since all of it takes time
 * and memory in every worker and in every `weir boot`. The one place that ends the process.
 *
 * Invariant: `serve` writes one JSON line on stdout, when it is ready, and nothing else; logs and errors go to stderr.
 */
import { realpath } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Command, CommanderError, Option } from "commander";
import { WeirError } from "./base/errors.ts";
import { DEFAULT_STUCK_AFTER_MS, LIMIT_NAMES, SERVER_LIMIT_NAMES } from "./base/limits.ts";
import { readNamedFile } from "./base/read-named-file.ts";
import { checkpointCommand } from "./inspect/checkpoint-command.ts";
import { defaultArtifactsDirectory } from "./job-server/default-directories.ts";
import { addJobCommands } from "./job-server/job-commands.ts";
import type { ServeFlags } from "./serve.ts";
import type { WorkerCommandFlags } from "./work.ts";
import { addWorkerOptions, integer, port, yesOrNo } from "./worker-flags.ts";

const VERSION = "0.1.0";
const MAIN_PATH = fileURLToPath(import.meta.url);

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
    .action(async (flags: ServeFlags, command: Command) => {
      const { serve } = await import("./serve.ts");
      const expansionPortIsDefault = command.getOptionValueSource("expansionPort") === "default";
      await serve({ ...flags, expansionPortIsDefault }, MAIN_PATH);
    });
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
    .action(async (flags: WorkerCommandFlags) => {
      const { work } = await import("./work.ts");
      await work(flags, { path: MAIN_PATH, version: VERSION });
    });
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
    .action(async (file: string) => {
      const [{ explainPlan }, { buildExecutionGraph }] = await Promise.all([
        import("./graph/explain-plan.ts"),
        import("./graph/build-execution-graph.ts"),
      ]);
      process.stdout.write(explainPlan(buildExecutionGraph(await readNamedFile(file))));
    });
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
