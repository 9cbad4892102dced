/**
 * What the execution graph can express and workers cannot run yet: refused by name when the job is prepared, so that
 * no pipeline hangs or gives wrong results. The list only shrinks.
 */
import { userError } from "../base/errors.ts";
import type { ExecutionGraph, TransformSpec } from "./execution-graph.ts";

/** @throws WeirError UNIMPLEMENTED naming the transform and the feature. */
export function requireSupported(graph: ExecutionGraph): void {
  for (const { stage } of graph.vertices) {
    if (stage === undefined) continue;
    const refuse = (transformId: string, feature: string) => {
      const transform = stage.transforms.find((candidate: TransformSpec) => candidate.id === transformId);
      throw userError(
        "UNIMPLEMENTED",
        `Transform "${transform?.uniqueName ?? transformId}" uses ${feature}, which Weir does not support yet.`,
      );
    };
    for (const state of stage.userStates) refuse(state.transformId, `user state ("${state.localName}")`);
    for (const timer of stage.timers) refuse(timer.transformId, `timers ("${timer.timerFamilyId}")`);
    const first = stage.transforms[0]?.id ?? "";
    if (stage.requiresStableInput) refuse(first, "stable input");
    if (stage.requiresTimeSortedInput) refuse(first, "time-sorted input");
  }
}
