/**
 * Which engine runs a graph. Blocking runs stage after stage over sealed partitions: the cheapest way for plain
 * bounded jobs. Streaming runs all stages at once and has the whole model: watermarks that move, user state, timers,
 * unbounded input.
 */
import { Trigger } from "../../proto/gen/beam_runner_api.ts";
import type { ExecutionGraph } from "./execution-graph.ts";

export type ExecutionMode = "blocking" | "streaming";

export function executionMode(graph: ExecutionGraph, options: { readonly streaming: boolean }): ExecutionMode {
  if (options.streaming || graph.unbounded) return "streaming";
  const needsTime = graph.vertices.some(
    ({ head, stage }) =>
      head.kind === "test-stream" ||
      (head.kind === "group-by-key" && mayDropInput(graph.windowings[head.windowingId]?.trigger)) ||
      (stage !== undefined &&
        (stage.userStates.length > 0 ||
          stage.timers.length > 0 ||
          stage.requiresStableInput ||
          stage.requiresTimeSortedInput)),
  );
  return needsTime ? "streaming" : "blocking";
}

/**
 * True for triggers that need not fire at the end of a bounded window, or that tell elements apart by more than the
 * window. The others give one pane of everything where all input is there at once.
 */
function mayDropInput(encoded: Uint8Array | undefined): boolean {
  const { trigger } = Trigger.decode(encoded ?? new Uint8Array());
  if (trigger === undefined) return false;
  return trigger.$case !== "default" && trigger.$case !== "afterEndOfWindow" && trigger.$case !== "always";
}
