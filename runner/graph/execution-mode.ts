/**
 * Which engine runs a graph. Blocking runs stage after stage over sealed partitions: the cheapest way for plain
 * bounded jobs. Streaming runs all stages at once and has the whole model: watermarks that move, user state, timers,
 * unbounded input.
 */
import type { ExecutionGraph } from "./execution-graph.ts";

export type ExecutionMode = "blocking" | "streaming";

export function executionMode(graph: ExecutionGraph, options: { readonly streaming: boolean }): ExecutionMode {
  if (options.streaming || graph.unbounded) return "streaming";
  const needsTime = graph.vertices.some(
    ({ head, stage }) =>
      head.kind === "test-stream" ||
      (stage !== undefined &&
        (stage.userStates.length > 0 ||
          stage.timers.length > 0 ||
          stage.requiresStableInput ||
          stage.requiresTimeSortedInput)),
  );
  return needsTime ? "streaming" : "blocking";
}
