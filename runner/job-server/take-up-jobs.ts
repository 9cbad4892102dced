/**
 * What a job server finds in its store when it starts: jobs that were running when the last one ended, and whether
 * each of them can go on. Nothing is started here.
 *
 * A job goes on at most MAX_TAKE_UPS times without a complete checkpoint between, so that one that takes its server
 * down with it does not do so for ever.
 */
import { WeirError } from "../base/errors.ts";
import { decodeExecutionGraph } from "../graph/execution-graph-json.ts";
import type { ExecutionGraph } from "../graph/execution-graph.ts";
import { executionMode } from "../graph/execution-mode.ts";
import { dependencySets, withStagedDependencies } from "./environment-dependencies.ts";
import type { JobRun } from "./job-executor.ts";
import { jobSettings } from "./job-settings.ts";
import { isTerminal } from "./job-state.ts";
import type { JobStore, JobSummary } from "./job-store.ts";
import { readOptions } from "./pipeline-options.ts";
import { forbidsRestarts } from "./restart-strategy.ts";
import { decodeOptions } from "./submitted-names.ts";
import { fileOf, withPath } from "./staged-file.ts";

/** A job that was running, ready to go on: but for where this server's artifacts are. */
export type StoredJobRun = Omit<JobRun, "artifactAddress">;

export type UnfinishedJob =
  | { readonly kind: "goes-on"; readonly summary: JobSummary; readonly run: StoredJobRun }
  /** `reason` is a sentence without its full stop. */
  | { readonly kind: "lost"; readonly summary: JobSummary; readonly reason: string };

const MAX_TAKE_UPS = 3;

/** Oldest first. */
export function unfinishedJobs(store: JobStore): UnfinishedJob[] {
  return store
    .jobs()
    .filter(({ state }) => !isTerminal(state))
    .map((summary) => {
      try {
        return goesOn(store, summary);
      } catch (thrown) {
        const reason = `what is stored of it cannot be read: ${WeirError.from(thrown).message.replace(/\.$/, "")}`;
        return { kind: "lost", summary, reason };
      }
    });
}

function goesOn(store: JobStore, summary: JobSummary): UnfinishedJob {
  const { jobId, name: jobName, options: pipelineOptionsBytes, state } = summary;
  const { retrievalToken, takeUps, checkpointed } = store.storedRun(jobId);
  const pipelineOptions = decodeOptions(pipelineOptionsBytes);
  const settings = jobSettings(readOptions(pipelineOptions));
  const graph = decodeExecutionGraph(store.plan(jobId) ?? new Uint8Array());
  const lost = (reason: string): UnfinishedJob => ({ kind: "lost", summary, reason });
  if (takeUps >= MAX_TAKE_UPS)
    return lost(`it was taken up ${takeUps} times already without a complete checkpoint in between`);
  const startsAnew = settings.checkpoints === undefined || executionMode(graph, settings) !== "streaming";
  if (startsAnew && forbidsRestarts(settings.restarts))
    return lost("it would begin again, which its options forbid (no restarts)");
  const takeUp = { count: takeUps + 1, checkpointed, draining: state === "DRAINING" };
  const run = { jobId, jobName, graph, settings, pipelineOptions, pipelineOptionsBytes, retrievalToken, takeUp };
  return { kind: "goes-on", summary, run };
}

/** The checksums of all files that the plan's environments depend on. */
export function stagedChecksums(graph: ExecutionGraph): readonly string[] {
  const artifacts = [...dependencySets(graph.environments).values()].flat();
  return [...new Set(artifacts.flatMap((artifact) => fileOf(artifact)?.sha256 ?? []))];
}

/** sha256 → retrieval tokens of the jobs whose environments depend on the file. */
export function keptArtifacts(jobs: readonly UnfinishedJob[]): ReadonlyMap<string, ReadonlySet<string>> {
  const owners = new Map<string, Set<string>>();
  for (const job of jobs) {
    if (job.kind === "lost") continue;
    for (const sha256 of stagedChecksums(job.run.graph))
      owners.set(sha256, (owners.get(sha256) ?? new Set()).add(job.run.retrievalToken));
  }
  return owners;
}

/**
 * The plan with its files where they are now.
 * @param pathOf undefined for a file that is not there.
 * @throws WeirError NOT_FOUND naming the first file that is gone
 */
export function withFilesAt(graph: ExecutionGraph, pathOf: (sha256: string) => string | undefined): ExecutionGraph {
  const sets = [...dependencySets(graph.environments)].map(([id, artifacts]) => {
    const moved = artifacts.map((artifact) => {
      const sha256 = fileOf(artifact)?.sha256;
      return sha256 === undefined ? artifact : withPath(artifact, pathOf(sha256));
    });
    return [id, moved] as const;
  });
  return withStagedDependencies(graph, new Map(sets));
}
