/**
 * What of a job's state a changed pipeline could not go on from, before anything stops: the same comparison as when the
 * pipeline is submitted with --savepoint_path. Pure.
 */
import { matchSavepoint } from "../checkpoint/match-savepoint.ts";
import { buildExecutionGraph } from "../graph/build-execution-graph.ts";
import { pipelineFacts } from "./open-savepoint.ts";

export interface UpgradeReport {
  /** For people; the last one sums up. */
  readonly lines: readonly string[];
  /** It could not be restored as it is. */
  readonly breaks: boolean;
}

/**
 * @param running the job's pipeline proto, encoded, as it was submitted
 * @param next that of its next version
 * @throws WeirError INVALID_ARGUMENT for bytes that are no pipeline, or one that Weir does not run
 */
export function upgradeReport(running: Uint8Array, next: Uint8Array): UpgradeReport {
  const former = pipelineFacts(buildExecutionGraph(running));
  const pipeline = pipelineFacts(buildExecutionGraph(next));
  const { incompatible, notRestored, changed, vertices } = matchSavepoint(former, pipeline);
  const begun = pipeline.vertices.filter(({ vertexId }) => !vertices.has(vertexId)).map(({ name }) => name);
  return {
    lines: [
      ...incompatible.map((text) => `breaks   ${text}`),
      ...notRestored.map((text) => `dropped  ${text} Only with --allow_non_restored_state.`),
      ...changed.map((text) => `changed  ${text}`),
      ...begun.map((name) => `new      The stage "${name}" begins without state.`),
      summary(incompatible.length, notRestored.length),
    ],
    breaks: incompatible.length + notRestored.length > 0,
  };
}

function summary(breaking: number, dropped: number): string {
  if (breaking > 0) return "The pipeline cannot go on from a savepoint of the job.";
  if (dropped > 0) return "The pipeline can go on from a savepoint of the job with --allow_non_restored_state alone.";
  return "The pipeline can go on from a savepoint of the job.";
}
