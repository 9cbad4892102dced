/**
 * The commands that ask a running job server about its jobs, or for something to happen to one. What they need is loaded
 * by the one that runs: see main.ts.
 */
import type { Command } from "commander";
import { readNamedFile } from "../base/read-named-file.ts";
import type { JobClient } from "./attach-job.ts";

const EXIT_CODES: Readonly<Record<string, number>> = { DONE: 0, DRAINED: 0, FAILED: 1, CANCELLED: 2 };

async function withJobClient<Result>(endpoint: string, use: (client: JobClient) => Promise<Result>): Promise<Result> {
  const { explainUnavailable, openJobClient } = await import("./attach-job.ts");
  const client = openJobClient(endpoint);
  try {
    return await use(client);
  } catch (thrown) {
    throw explainUnavailable(thrown, endpoint);
  } finally {
    client.close();
  }
}

async function savepoint(endpoint: string, job: string, folder: string | undefined, stop: boolean): Promise<string> {
  const { takeSavepoint } = await import("./control-client.ts");
  return takeSavepoint(endpoint, job, folder, stop);
}

function addJobEndpoint(command: Command): Command {
  return command.option("--job-endpoint <host:port>", "the job server", "localhost:8099");
}

/** @param print a line of output */
export function addJobCommands(program: Command, print: (line: string) => void): void {
  addJobEndpoint(program.command("attach <job>"))
    .description("Print a job's messages and wait for its end; exit code 0 DONE or DRAINED, 1 FAILED, 2 CANCELLED.")
    .action(async (job: string, { jobEndpoint }: { jobEndpoint: string }) => {
      const { attachJob } = await import("./attach-job.ts");
      const state = await withJobClient(jobEndpoint, (client) => attachJob(client, job, print));
      process.exitCode = EXIT_CODES[state] ?? 1;
    });
  addJobEndpoint(program.command("jobs"))
    .description("List the jobs of a server.")
    .action(async ({ jobEndpoint }: { jobEndpoint: string }) => {
      const { listJobs } = await import("./attach-job.ts");
      (await withJobClient(jobEndpoint, listJobs)).forEach(print);
    });
  addJobEndpoint(program.command("cancel <job>"))
    .description("Cancel a job.")
    .action(async (job: string, { jobEndpoint }: { jobEndpoint: string }) => {
      const { cancelJob } = await import("./attach-job.ts");
      print(await withJobClient(jobEndpoint, (client) => cancelJob(client, job)));
    });
  addJobEndpoint(program.command("drain <job>"))
    .description("End a streaming job's sources; it ends when what they have read is processed.")
    .action(async (job: string, { jobEndpoint }: { jobEndpoint: string }) => {
      const { drainJob } = await import("./attach-job.ts");
      print(await withJobClient(jobEndpoint, (client) => drainJob(client, job)));
    });
  addJobEndpoint(program.command("savepoint <job> [folder]"))
    .description(
      "Take a savepoint of a streaming job: a snapshot of your own, from which new jobs can go on with --savepoint_path. Prints its folder, by default a new one beside the job's checkpoints. Nobody deletes it but you.",
    )
    .action(async (job: string, folder: string | undefined, { jobEndpoint }: { jobEndpoint: string }) =>
      print(await savepoint(jobEndpoint, job, folder, false)),
    );
  addJobEndpoint(program.command("stop <job> [folder]"))
    .description(
      "End a streaming job with a savepoint: nothing behind the savepoint is processed. The job is then DONE.",
    )
    .requiredOption("--savepoint", "take one; to end a job without, there are cancel and drain")
    .action(async (job: string, folder: string | undefined, { jobEndpoint }: { jobEndpoint: string }) =>
      print(await savepoint(jobEndpoint, job, folder, true)),
    );
  addJobEndpoint(program.command("upgrade-check <job> <file>"))
    .description(
      "Compare a job with the pipeline proto of its next version, before anything stops: what of its state could not be restored. Exit code 1 if something breaks.",
    )
    .action(async (job: string, file: string, { jobEndpoint }: { jobEndpoint: string }) => {
      const [{ fetchPipeline }, { upgradeReport }] = await Promise.all([
        import("./attach-job.ts"),
        import("./upgrade-report.ts"),
      ]);
      const running = await withJobClient(jobEndpoint, (client) => fetchPipeline(client, job));
      const { lines, breaks } = upgradeReport(running, await readNamedFile(file));
      lines.forEach(print);
      process.exitCode = breaks ? 1 : 0;
    });
  addJobEndpoint(program.command("explain <job>"))
    .description("Say where each stage of a running job stands, and what holds its watermark back.")
    .option("--json", "for machines", false)
    .action(async (job: string, { jobEndpoint, json }: { jobEndpoint: string; json: boolean }) => {
      const [{ fetchExplanation }, { explanationLines }] = await Promise.all([
        import("./attach-job.ts"),
        import("./job-explanation.ts"),
      ]);
      const explanation = await fetchExplanation(jobEndpoint, job);
      if (json) print(JSON.stringify(explanation));
      else explanationLines(explanation).forEach(print);
    });
}
