/**
 * Which engine runs a job: the blocking one, stage by stage over sealed partitions, or the streaming one, all tasks at
 * once over channels.
 */
import type { ExecutionGraph } from "../graph/execution-graph.ts";
import { executionMode } from "../graph/execution-mode.ts";
import type { JobOutcome, JobProgress } from "./job-executor.ts";
import type { SavepointResult } from "./savepoints.ts";
import type { JobSettings } from "./job-settings.ts";

/** One job that runs on either engine. */
export interface Execution {
  /** Runs the job to its end and resolves when its workers have let go of it. Never rejects. */
  run(): Promise<JobOutcome>;
  /** Ends it; the first outcome counts. */
  end(outcome: JobOutcome): void;
  /** As JobExecutor's; undefined where it cannot be done. */
  drain?(): void;
  /** As JobExecutor's; undefined where it cannot be done. */
  suspend?(): boolean;
  /** As JobExecutor's; undefined where there are no checkpoints. */
  savepoint?(path: string | undefined, stop: boolean): Promise<SavepointResult>;
  readonly progress?: JobProgress;
  /** Resolves when the job holds nothing any more. */
  readonly released: Promise<void>;
}

/** True when the blocking engine cannot run the job, or the user wants it to stream. */
export function requiresStreaming(graph: ExecutionGraph, { streaming }: JobSettings): boolean {
  return executionMode(graph, { streaming }) === "streaming";
}
