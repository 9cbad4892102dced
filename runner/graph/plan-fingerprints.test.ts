import test from "ava";
import { Pipeline } from "../../proto/gen/beam_runner_api.ts";
import { SmallPipeline } from "../../test/pipelines/small-pipeline.ts";
import { buildExecutionGraph } from "./build-execution-graph.ts";
import type { ExecutionGraph } from "./execution-graph.ts";
import { channelFingerprintOf, fingerprintOf } from "./plan-fingerprints.ts";

function plan(): ExecutionGraph {
  const small = new SmallPipeline();
  small.parDo("second", small.groupByKey("group", small.parDo("first", small.impulse("impulse"))));
  return buildExecutionGraph(Pipeline.encode(small.pipeline).finish());
}

function withStages(graph: ExecutionGraph, change: object): ExecutionGraph {
  return {
    ...graph,
    vertices: graph.vertices.map((vertex) =>
      vertex.stage === undefined ? vertex : { ...vertex, stage: { ...vertex.stage, ...change } },
    ),
  };
}

test("functions that are pickled anew change the plan, and not its channels", (t) => {
  const graph = plan();
  const again = withStages(graph, { descriptor: Uint8Array.of(1, 2, 3) });
  t.not(fingerprintOf(again), fingerprintOf(graph));
  t.is(channelFingerprintOf(again), channelFingerprintOf(graph));
});

test("where staged files are changes neither", (t) => {
  const graph = plan();
  const dependency = {
    typeUrn: "file",
    typePayload: new Uint8Array(),
    roleUrn: "role",
    rolePayload: new Uint8Array(),
  };
  const environments = Object.entries(graph.environments).map(([id, spec]) => [
    id,
    { ...spec, dependencies: [dependency] },
  ]);
  const moved = { ...graph, environments: Object.fromEntries(environments) as ExecutionGraph["environments"] };
  t.true(environments.length > 0);
  t.is(fingerprintOf(moved), fingerprintOf(graph));
  t.is(channelFingerprintOf(moved), channelFingerprintOf(graph));
});

test("another stage, another partitioner and another coder are other channels", (t) => {
  const graph = plan();
  const [first] = Object.values(graph.datasets);
  const others = [
    { ...graph, vertices: graph.vertices.slice(1) },
    withStages(graph, { transforms: [] }),
    ...[{ partitioner: "broadcast" }, { coderId: "none" }].map((change) => ({
      ...graph,
      datasets: { ...graph.datasets, [first?.id ?? ""]: { ...first, ...change } },
    })),
  ] as ExecutionGraph[];
  const all = [graph, ...others].map(channelFingerprintOf);
  t.is(new Set(all).size, all.length);
});
