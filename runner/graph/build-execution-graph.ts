/**
 * From a pipeline to its execution graph: validate, rewrite, fuse, then lay stages and runner transforms out as
 * vertices and what flows between them as datasets.
 *
 * Flatten and Redistribute become no vertices: a consumer of a Flatten reads several datasets, a consumer of a
 * Redistribute reads a `rebalance` one. A TestStream is a vertex of its own. An Impulse or a GroupByKey is the head of the stage that reads it, where that
 * is all that does, and otherwise a vertex without stage.
 *
 * Invariant: the same pipeline gives the same graph, ids and order included.
 */
import type { Pipeline } from "../../proto/gen/beam_runner_api.ts";
import { decodePipeline } from "./decode-pipeline.ts";
import type { ExecutionGraph } from "./execution-graph.ts";
import { fuseStages } from "./fuse-stages.ts";
import { layOutVertices } from "./lay-out-vertices.ts";
import { planLeafTransforms } from "./leaf-transforms.ts";
import { expandSplittableDoFns } from "./rewrite/expand-splittable-do-fns.ts";
import { frameTestStreams } from "./rewrite/frame-test-streams.ts";
import { liftCombiners } from "./rewrite/lift-combiners.ts";
import { unifyCoders } from "./rewrite/unify-coders.ts";
import { specifyGraph } from "./specify-graph.ts";
import { validatePipeline } from "./validate-pipeline.ts";
import { WireCoders } from "./wire-coders.ts";

export interface BuildOptions {
  /**
   * Hand groups to SDKs that can read them so as state-backed iterables, so that a group may be larger than memory.
   * Default true.
   */
  readonly stateBackedIterables?: boolean;
  /** Truncate the restrictions of splittable DoFns before they are processed (experiment `drain_at_start`). */
  readonly drainAtStart?: boolean;
  /** Python's option of that name: what a count never reaches is lost at the window's expiry. */
  readonly allowUnsafeTriggers?: boolean;
}

/** @throws WeirError INVALID_ARGUMENT, naming the transform and its URN, for a pipeline that Weir does not run. */
export function buildExecutionGraph(pipeline: Pipeline | Uint8Array, options: BuildOptions = {}): ExecutionGraph {
  const decoded = pipeline instanceof Uint8Array ? decodePipeline(pipeline) : pipeline;
  validatePipeline(decoded);
  const plan = planLeafTransforms(decoded);
  const coders = new WireCoders(plan.coders);
  frameTestStreams(plan, coders);
  unifyCoders(plan, coders);
  liftCombiners(plan, coders);
  expandSplittableDoFns(plan, coders, options.drainAtStart ?? false);
  const vertices = layOutVertices(plan, fuseStages(plan));
  return specifyGraph(plan, coders, vertices, {
    stateBackedIterables: options.stateBackedIterables ?? true,
    allowUnsafeTriggers: options.allowUnsafeTriggers ?? false,
  });
}
