/**
 * Decides which vertices and datasets a fused plan needs, before anything is encoded.
 *
 * A consumer asks for a PCollection and gets datasets of what physically produces it: through a Flatten those of all
 * its inputs, through a Redistribute those of its input, cut as `rebalance`. Equal requests share a dataset.
 */
import { assert } from "../base/assert.ts";
import type { Partitioner } from "./execution-graph.ts";
import type { FusedPlan, FusedStage } from "./fuse-stages.ts";
import type { NodeSideInput, Plan, PlanNode } from "./plan-node.ts";

export interface DatasetDraft {
  readonly pcollectionId: string;
  readonly producer: VertexDraft;
  readonly partitioner: Partitioner;
  readonly sizedRestrictions: boolean;
}

export interface VertexDraft {
  /** The runner transform at its head; undefined where it reads. */
  readonly head: PlanNode | undefined;
  readonly stage: FusedStage | undefined;
  /** Reads a TestStream: in one subtask, so that the elements of an event stay in their order. */
  readonly followsTestStream: boolean;
  inputs: readonly DatasetDraft[];
  sideInputs: readonly {
    readonly node: PlanNode;
    readonly side: NodeSideInput;
    readonly datasets: readonly DatasetDraft[];
  }[];
  /** What others read of it, in the order in which they asked. */
  readonly outputs: DatasetDraft[];
}

/** Vertices by dependency, with their datasets. */
export interface VertexLayout {
  readonly vertices: readonly VertexDraft[];
  readonly producerOf: ReadonlyMap<string, PlanNode>;
}

export function layOutVertices(plan: Plan, fused: FusedPlan): VertexLayout {
  const { producerOf, stageOf } = fused;
  const uses = liveUses(plan, fused);
  const vertexOf = new Map<PlanNode | FusedStage, VertexDraft>();
  const vertices: VertexDraft[] = [];
  const addVertex = (key: PlanNode | FusedStage, head: PlanNode | undefined, stage: FusedStage | undefined): void => {
    const followsTestStream = producerOf.get(stage?.inputId ?? "")?.kind === "test-stream";
    const vertex: VertexDraft = { head, stage, followsTestStream, inputs: [], sideInputs: [], outputs: [] };
    vertexOf.set(key, vertex);
    vertices.push(vertex);
  };
  for (const node of plan.nodes) {
    if (node.kind === "test-stream" && node.outputs.some((output) => uses.has(output)))
      addVertex(node, node, undefined);
    if (node.kind !== "impulse" && node.kind !== "group-by-key") continue;
    const use = uses.get(node.outputs[0] ?? "");
    if (use !== undefined && (use.others > 0 || !isChained(node, use))) addVertex(node, node, undefined);
  }
  for (const stage of fused.stages) {
    const producer = producerOf.get(stage.inputId);
    const use = uses.get(stage.inputId);
    const isHead = producer !== undefined && use !== undefined && stage.root === "plain" && isChained(producer, use);
    addVertex(stage, isHead ? producer : undefined, stage);
  }

  const datasets = new Map<string, DatasetDraft>();
  /** @param copies how often the consumer has asked for the same already: a Flatten of (P, P) reads P twice. */
  const dataset = (
    source: Source,
    wanted: Partitioner | "any",
    sized: boolean,
    copies: Map<string, number>,
  ): DatasetDraft => {
    const producerNode = producerOf.get(source.pcollectionId);
    assert(producerNode !== undefined, `PCollection ${source.pcollectionId} has no producer`);
    const producer = vertexOf.get(stageOf.get(producerNode) ?? producerNode);
    assert(producer !== undefined, `PCollection ${source.pcollectionId} is produced by no vertex`);
    const spread = source.redistributed || isSingleton(producer);
    const partitioner = wanted === "any" ? (spread ? "rebalance" : "forward") : wanted;
    const request = JSON.stringify([source.pcollectionId, partitioner, sized]);
    const copy = copies.get(request) ?? 0;
    copies.set(request, copy + 1);
    const key = `${request} ${copy}`;
    const known = datasets.get(key);
    if (known !== undefined) return known;
    const draft: DatasetDraft = {
      pcollectionId: source.pcollectionId,
      producer,
      partitioner,
      sizedRestrictions: sized,
    };
    datasets.set(key, draft);
    producer.outputs.push(draft);
    return draft;
  };
  const read = (pcollectionId: string, wanted: Partitioner | "any", sized = false): DatasetDraft[] => {
    const copies = new Map<string, number>();
    return sources(pcollectionId, fused).map((source) => dataset(source, wanted, sized, copies));
  };
  for (const vertex of vertices) {
    const { head, stage } = vertex;
    if (head?.kind === "group-by-key") vertex.inputs = read(head.mainInputs[0] ?? "", "hash");
    else if (head === undefined && stage !== undefined) {
      const sized = stage.root === "sized-restrictions";
      vertex.inputs = read(stage.inputId, stage.root === "keyed" ? "hash" : sized ? "rebalance" : "any", sized);
    }
    vertex.sideInputs = (stage?.nodes ?? []).flatMap((node) =>
      node.sideInputs.map((side) => ({ node, side, datasets: read(side.pcollectionId, "broadcast") })),
    );
  }
  return { vertices: sortVertices(vertices), producerOf };
}

/** A vertex whose one subtask produces everything. */
export function isSingleton(vertex: VertexDraft): boolean {
  return vertex.head?.kind === "impulse" || vertex.head?.kind === "test-stream" || vertex.followsTestStream;
}

interface Use {
  /** Stages that read it as their main input and take any partition of it. */
  plainStages: number;
  /** All that needs it as a dataset: side inputs, runner transforms, stages that are particular about partitions. */
  others: number;
}

/** How each PCollection is used, apart from uses by runner transforms whose own output nobody uses. */
function liveUses(plan: Plan, fused: FusedPlan): Map<string, Use> {
  const uses = new Map<string, Use>();
  const use = (pcollectionId: string): Use => {
    const known = uses.get(pcollectionId) ?? { plainStages: 0, others: 0 };
    uses.set(pcollectionId, known);
    return known;
  };
  for (const stage of fused.stages) {
    if (stage.root === "plain") use(stage.inputId).plainStages++;
    else use(stage.inputId).others++;
    for (const node of stage.nodes) for (const side of node.sideInputs) use(side.pcollectionId).others++;
  }
  for (const node of plan.nodes.toReversed()) {
    if (node.kind === "sdk" || fused.stageOf.has(node) || !node.outputs.some((output) => uses.has(output))) continue;
    for (const input of node.mainInputs) use(input).others++;
  }
  return uses;
}

/** An Impulse can be had once per stage; groups can not. */
function isChained(node: PlanNode, use: Use): boolean {
  if (node.kind === "impulse") return use.plainStages > 0;
  return node.kind === "group-by-key" && use.plainStages === 1 && use.others === 0;
}

interface Source {
  readonly pcollectionId: string;
  readonly redistributed: boolean;
}

/** The PCollections that a stage, an Impulse or a GroupByKey produces and that make this one up. */
function sources(pcollectionId: string, fused: FusedPlan): Source[] {
  const result: Source[] = [];
  const stack: Source[] = [{ pcollectionId, redistributed: false }];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const producer = fused.producerOf.get(next.pcollectionId);
    const passes = producer !== undefined && (producer.kind === "flatten" || producer.kind === "redistribute");
    if (!passes || fused.stageOf.has(producer)) {
      result.push(next);
      continue;
    }
    const redistributed = next.redistributed || producer.kind === "redistribute";
    for (const input of producer.mainInputs.toReversed()) stack.push({ pcollectionId: input, redistributed });
  }
  return result;
}

function sortVertices(vertices: readonly VertexDraft[]): VertexDraft[] {
  const sorted: VertexDraft[] = [];
  const state = new Map<VertexDraft, "open" | "done">();
  for (const start of vertices) {
    const stack = [start];
    for (let vertex = stack.at(-1); vertex !== undefined; vertex = stack.at(-1)) {
      if (state.get(vertex) === undefined) {
        state.set(vertex, "open");
        const needed = [...vertex.inputs, ...vertex.sideInputs.flatMap((side) => side.datasets)];
        for (const { producer } of needed.reverse()) {
          assert(state.get(producer) !== "open", "fusion made a cycle of vertices");
          if (state.get(producer) === undefined) stack.push(producer);
        }
        continue;
      }
      stack.pop();
      if (state.get(vertex) === "done") continue;
      state.set(vertex, "done");
      sorted.push(vertex);
    }
  }
  return sorted;
}
