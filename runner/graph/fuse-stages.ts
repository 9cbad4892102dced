/**
 * Greedy fusion: SDK transforms are gathered into stages that one harness runs without the runner in between.
 *
 * Transforms are taken in order of dependency. One joins the stage that produces its main input, or else a stage
 * that reads the same PCollection, if both run in the same environment and the stage does not, by any path, produce
 * what the transform needs as a side input, and if main input can wait for side inputs at the stage's input (windows
 * are the same there); otherwise it begins a stage. Some always begin one: an SDF's process
 * transform (its input is balanced by size), a stateful ParDo (its input is partitioned by key), a ParDo that
 * requires stable input.
 *
 * Invariant: the graph of stages has no cycle.
 */
import { type Plan, type PlanNode, producers } from "./plan-node.ts";
import { canWaitAt } from "./side-input-windows.ts";
import { URN } from "./urns.ts";

/** Why a stage's first transform cannot be fused with its producer; it decides how the stage's input is cut. */
export type StageRoot = "plain" | "keyed" | "sized-restrictions" | "stable-input";

export interface FusedStage {
  readonly environmentId: string;
  readonly root: StageRoot;
  /** The PCollection that the stage reads. */
  readonly inputId: string;
  readonly nodes: PlanNode[];
}

export interface FusedPlan {
  readonly stages: readonly FusedStage[];
  /** Stage of every node that an SDK runs. Flattens inside a stage are among them. */
  readonly stageOf: ReadonlyMap<PlanNode, FusedStage>;
  readonly producerOf: ReadonlyMap<string, PlanNode>;
}

/** @param plan with nodes sorted by dependency. */
export function fuseStages(plan: Plan): FusedPlan {
  const producerOf = producers(plan.nodes);
  const stages: FusedStage[] = [];
  const stageOf = new Map<PlanNode, FusedStage>();
  const stagesReading = new Map<string, FusedStage[]>();
  const graph = { producerOf, stageOf };

  const begin = (node: PlanNode, root: StageRoot, inputId: string): void => {
    const stage: FusedStage = { environmentId: node.environmentId, root, inputId, nodes: [node] };
    stages.push(stage);
    stageOf.set(node, stage);
    const readers = stagesReading.get(inputId);
    if (readers === undefined) stagesReading.set(inputId, [stage]);
    else readers.push(stage);
  };
  const join = (node: PlanNode, stage: FusedStage): void => {
    stage.nodes.push(node);
    stageOf.set(node, stage);
  };

  for (const node of plan.nodes) {
    if (node.kind === "flatten") {
      const stage = commonStage(node, graph);
      if (stage !== undefined) join(node, stage);
      continue;
    }
    if (node.kind !== "sdk") continue;
    const inputId = node.mainInputs[0] ?? "";
    const root = rootKind(node);
    if (root === "plain") {
      const producer = producerOf.get(inputId);
      const candidates = [
        ...(producer === undefined ? [] : [stageOf.get(producer)]),
        ...(stagesReading.get(inputId) ?? []).filter((stage) => stage.root === "plain"),
      ];
      const sideInputs = node.sideInputs.map((side) => side.pcollectionId);
      const stage = candidates.find(
        (candidate) =>
          candidate !== undefined &&
          candidate.environmentId === node.environmentId &&
          canWaitAt(plan, node, candidate.inputId) &&
          !dependsOn(sideInputs, candidate, graph),
      );
      if (stage !== undefined) {
        join(node, stage);
        continue;
      }
    }
    begin(node, root, inputId);
  }
  return { stages, stageOf, producerOf };
}

function rootKind(node: PlanNode): StageRoot {
  if (node.proto.spec?.urn === URN.sdfProcess) return "sized-restrictions";
  if (node.parDo === undefined) return "plain";
  if (isStateful(node)) return "keyed";
  return node.parDo.requiresStableInput ? "stable-input" : "plain";
}

/** True for a ParDo with user state or timers. */
export function isStateful(node: PlanNode): boolean {
  const { parDo } = node;
  if (parDo === undefined || node.proto.spec?.urn !== URN.parDo) return false;
  return Object.keys(parDo.stateSpecs).length > 0 || Object.keys(parDo.timerFamilySpecs).length > 0;
}

interface Graph {
  readonly producerOf: ReadonlyMap<string, PlanNode>;
  readonly stageOf: ReadonlyMap<PlanNode, FusedStage>;
}

/** The stage that produces all inputs of a Flatten, which can then flatten them itself. */
function commonStage(node: PlanNode, graph: Graph): FusedStage | undefined {
  const producersOfInputs = node.mainInputs.map((input) => graph.producerOf.get(input));
  const [first] = producersOfInputs;
  const stage = first === undefined ? undefined : graph.stageOf.get(first);
  if (stage === undefined) return undefined;
  return producersOfInputs.every((producer) => producer !== undefined && graph.stageOf.get(producer) === stage)
    ? stage
    : undefined;
}

/** True when one of the PCollections is produced by the stage, or from what it produces. */
function dependsOn(pcollectionIds: readonly string[], stage: FusedStage, graph: Graph): boolean {
  const stack = [...pcollectionIds];
  const seen = new Set<PlanNode | FusedStage>();
  for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
    const producer = graph.producerOf.get(id);
    if (producer === undefined) continue;
    const producerStage = graph.stageOf.get(producer);
    if (producerStage === stage) return true;
    if (producerStage === undefined) {
      if (seen.has(producer)) continue;
      seen.add(producer);
      stack.push(...producer.mainInputs);
    } else {
      if (seen.has(producerStage)) continue;
      seen.add(producerStage);
      stack.push(producerStage.inputId);
      for (const node of producerStage.nodes) for (const side of node.sideInputs) stack.push(side.pcollectionId);
    }
  }
  return false;
}
