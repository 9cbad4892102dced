/** The command line of `weir checkpoint`: looks at a job's checkpoints without a job server, and changes nothing. */
import { rmSync } from "node:fs";
import { Command, InvalidArgumentError } from "commander";
import { WeirError } from "../base/errors.ts";
import { makeTemporaryDirectory } from "../base/temporary-directory.ts";
import type { CheckpointSource } from "./checkpoint-source.ts";

interface JobFlag {
  readonly job?: string;
}

interface ExportFlags extends JobFlag {
  readonly out: string;
  readonly format: "file" | "stream";
}

/** @param print one line on stdout */
export function checkpointCommand(print: (line: string) => void): Command {
  const command = new Command("checkpoint").description("Look at the checkpoints of a job, running or not.");
  const add = (text: string, description: string): Command => {
    const added = command.command(text).description(description).exitOverride();
    added.argument(
      "<directory>",
      "the job's checkpoint directory, a data directory, or the URL of one: s3://, gs://, hdfs://",
    );
    return added.option("--job <id>", "the job, where the directory has several");
  };
  add("ls", "List the complete checkpoints.").action(async (directory: string, { job }: JobFlag) => {
    const { listCheckpoints } = await import("./checkpoint-reports.ts");
    for await (const line of listCheckpoints(await openSource(directory, job))) print(line);
  });
  add("show", "Show a checkpoint's tasks, files, tables and watermarks.")
    .argument("[checkpoint]", "its number; default: the newest", checkpointId)
    .action(async (directory: string, id: number | undefined, { job }: JobFlag) => {
      const { showCheckpoint } = await import("./checkpoint-reports.ts");
      const source = await openSource(directory, job);
      const manifest = await source.manifest(id);
      await withTemporaryDirectory(async (path) => {
        for await (const line of showCheckpoint(source, manifest, path)) print(line);
      });
    });
  add("verify", "Check every file, block and checksum; exit code 1 when something is damaged or missing.")
    .argument("[checkpoint]", "its number; default: all", checkpointId)
    .action(async (directory: string, id: number | undefined, { job }: JobFlag) => {
      const { verifyCheckpoints } = await import("./checkpoint-reports.ts");
      const source = await openSource(directory, job);
      if (id !== undefined) await source.manifest(id);
      const ids = id === undefined ? source.ids : [id];
      const { damaged } = await withTemporaryDirectory((path) => verifyCheckpoints(source, ids, path, print));
      if (damaged === 0) return;
      throw new WeirError({
        code: "DATA_LOSS",
        domain: "external",
        message: `${damaged === 1 ? "One checkpoint" : `${damaged} checkpoints`} in ${source.path} cannot be restored.`,
        hint: "A job goes back to the newest one that is whole; get the files back from a copy, or restore a savepoint.",
      });
    });
  add("export", "Write the state's rows to an Arrow IPC file, for pyarrow, DuckDB and others.")
    .argument("[checkpoint]", "its number; default: the newest", checkpointId)
    .requiredOption("--out <file>", "what to write; replaced if it is there")
    .option("--format <format>", "file or stream", formatOf, "file")
    .action(async (directory: string, id: number | undefined, { job, out, format }: ExportFlags) => {
      const { exportCheckpoint } = await import("./export-checkpoint.ts");
      const manifest = await (await openSource(directory, job)).manifest(id);
      await withTemporaryDirectory(async (temporaryDirectory) => {
        const count = await exportCheckpoint(manifest, { path: out, format, temporaryDirectory });
        print(`${count} rows of checkpoint ${manifest.checkpointId} are in ${out}`);
      });
    });
  return command;
}

async function openSource(directory: string, job: string | undefined): Promise<CheckpointSource> {
  const { CheckpointSource: Source } = await import("./checkpoint-source.ts");
  return Source.open(directory, job);
}

async function withTemporaryDirectory<Result>(use: (path: string) => Promise<Result>): Promise<Result> {
  const path = makeTemporaryDirectory("checkpoint");
  try {
    return await use(path);
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

function checkpointId(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a checkpoint's number.");
}

function formatOf(text: string): "file" | "stream" {
  if (text === "file" || text === "stream") return text;
  throw new InvalidArgumentError("It must be file or stream.");
}
