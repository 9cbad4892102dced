/**
 * The parts of a graph that no dataset connects: what fails in one concerns no other, so that a streaming job restarts
 * the region that has lost a task, and the others go on. Pure.
 *
 * Source: Flink's "pipelined region" and RestartPipelinedRegionFailoverStrategy.
 */
import { present } from "../base/assert.ts";
import type { DatasetId, VertexId } from "../base/ids.ts";
import type { DatasetSpec, ExecutionGraph, VertexSpec } from "./execution-graph.ts";

/** Datasets of a vertex' main input and of its side inputs, each once. */
export function datasetsInto(vertex: VertexSpec): DatasetId[] {
  const side = vertex.stage?.sideInputs.flatMap((input) => input.datasets) ?? [];
  return [...new Set([...vertex.inputs, ...side])];
}

/** Which vertices datasets connect, directly or by others: the set of all that a vertex is connected with, itself too. */
export function connectedVertices(
  graph: ExecutionGraph,
  connects: (dataset: DatasetSpec) => boolean,
): ReadonlyMap<VertexId, ReadonlySet<VertexId>> {
  const sets = new Map<VertexId, Set<VertexId>>(graph.vertices.map(({ id }) => [id, new Set([id])]));
  for (const vertex of graph.vertices) {
    for (const datasetId of datasetsInto(vertex)) {
      const dataset = present(graph.datasets[datasetId], `dataset ${datasetId}`);
      if (!connects(dataset)) continue;
      const into = present(sets.get(dataset.producer), `producer of dataset ${datasetId}`);
      const from = present(sets.get(vertex.id), "the vertex's set");
      if (into === from) continue;
      for (const id of from) {
        into.add(id);
        sets.set(id, into);
      }
    }
  }
  return sets;
}

/**
 * Sets of vertices that datasets connect, in the order of their first vertex: every vertex is in one. A job with a
 * TestStream is one region, since all of it stands by the TestStream's processing time and waits until all is quiet.
 */
export function pipelinedRegions(graph: ExecutionGraph): ReadonlySet<VertexId>[] {
  if (graph.vertices.some(({ head }) => head.kind === "test-stream"))
    return [new Set(graph.vertices.map(({ id }) => id))];
  return [...new Set(connectedVertices(graph, () => true).values())];
}
