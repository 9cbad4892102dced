/**
 * Lays out the tasks of a streaming job: how many subtasks each vertex has, which worker runs which, and which
 * channels connect them. Pure.
 *
 * Channels. A dataset has one OutputEdge for each vertex that reads it, as main input or side input. The producer's
 * subtask routes each element to one of the edge's `consumerParallelism` channels by the dataset's partitioner:
 * - `forward`: the consumer's subtask of the same index; no other channel of the edge exists,
 * - `hash`: the subtask that owns the key group of the encoded key,
 * - `rebalance`: any,
 * - `broadcast`: all of them.
 * Correspondingly an input has a channel from each subtask of the producer, and from one only when it is `forward`.
 *
 * Invariants: vertices that are joined by `forward` have the same parallelism; the parallelism of a job does
 * not change while it runs; a snapshot of another parallelism is divided anew among its tasks.
 */
import type { InputChannel, OutputEdge, StreamTaskDeployment } from "../../proto/gen/worker.ts";
import { assert, present } from "../base/assert.ts";
import type { DatasetId, VertexId, WorkerId } from "../base/ids.ts";
import { DEFAULT_MAX_PARALLELISM } from "../base/limits.ts";
import type { ExecutionGraph, VertexSpec } from "../graph/execution-graph.ts";
import { connectedVertices, datasetsInto, pipelinedRegions } from "../graph/pipelined-regions.ts";
import type { JobSettings } from "./job-settings.ts";

/** More would take more memory, and the SDK's own work bounds them. */
const OVERLAPPED_BUNDLES = 4;

/** VERTEX.SUBTASK: names a task in all execution attempts of its job. */
export type TaskKey = string & { readonly taskKey: true };

export function taskKey(vertexId: string, subtaskIndex: number): TaskKey {
  return `${vertexId}.${subtaskIndex}` as TaskKey;
}

/** Where a task of a deployment goes on from. */
export type RestoredTask = Pick<StreamTaskDeployment, "restore" | "former" | "formerParallelism" | "renamed">;

export const NOTHING_RESTORED: RestoredTask = { restore: [], former: [], formerParallelism: 0, renamed: [] };

/** What a plan needs of a worker. */
export interface PlanWorker {
  readonly workerId: WorkerId;
  readonly exchangeAddress: string;
}

export interface PlacedTask {
  readonly key: TaskKey;
  /** An index into the plan's regions. */
  readonly region: number;
  readonly vertex: VertexSpec;
  readonly workerId: WorkerId;
  readonly deployment: StreamTaskDeployment;
}

/** Tasks that are deployed, and restarted, together. */
export interface PlannedRegion {
  readonly index: number;
  readonly vertexIds: ReadonlySet<VertexId>;
  /** Its tasks on the workers that run one. */
  readonly byWorker: ReadonlyMap<WorkerId, readonly StreamTaskDeployment[]>;
  /** Workers with a task that has no input channel: where barriers begin. */
  readonly sourceWorkers: ReadonlySet<WorkerId>;
}

/** What the tasks of a worker share its memory by. */
export interface WorkerLoad {
  readonly taskCount: number;
  readonly channelCount: number;
}

export interface StreamingPlan {
  readonly tasks: readonly PlacedTask[];
  readonly regions: readonly PlannedRegion[];
  /** Of the workers that run a task. */
  readonly loads: ReadonlyMap<WorkerId, WorkerLoad>;
  /** Tasks of TestStreams. */
  readonly testStreams: readonly PlacedTask[];
}

export interface StreamingPlanInit {
  readonly graph: ExecutionGraph;
  /** Of vertices that can run in parallel. */
  readonly parallelism: number;
  /** So many times the subtasks for vertices with user state, and what `forward` joins them with; default: 1. */
  readonly stateSubtasks?: number;
  /** At least one. Placement follows their order. */
  readonly workers: readonly PlanWorker[];
  /** What a task goes on from; default: from the beginning. */
  readonly restore?: (vertexId: VertexId, subtaskIndex: number, parallelism: number) => RestoredTask;
}

/**
 * Subtasks of a vertex of the job that may have several.
 * @param boundTo subtasks by vertex of a snapshot that fits no others
 */
export function streamingParallelism(
  graph: ExecutionGraph,
  settings: JobSettings,
  workerCount: number,
  boundTo?: ReadonlyMap<string, number>,
): number {
  const bound = boundTo === undefined ? undefined : parallelismFor(graph, settings, boundTo);
  if (bound !== undefined) return bound;
  const limit = settings.maxParallelism ?? DEFAULT_MAX_PARALLELISM;
  if (settings.parallelism !== undefined) return Math.min(settings.parallelism, limit);
  // A harness that the user runs is one process: more subtasks would only share it.
  const type = settings.environmentType;
  const external = Object.values(graph.environments).some(({ urn }) => urn === "beam:env:external:v1");
  if (type === "LOOPBACK" || type === "EXTERNAL" || external) return 1;
  return Math.max(1, Math.min(workerCount, limit));
}

/**
 * Subtasks of a vertex with user state for each one of other vertices. An SDK waits for every answer about state, and
 * a harness runs several bundles at once: a few of them overlap their waits. A batch job gets them unless the user has
 * said how parallel it is; each subtask has an instance of the user's DoFns of its own, as elsewhere.
 */
export function stateSubtasks(graph: ExecutionGraph, settings: JobSettings, parallelism: number): number {
  const isBatch = !settings.streaming && !graph.vertices.some(isTestStream);
  if (!isBatch || settings.parallelism !== undefined) return 1;
  const limit = settings.maxParallelism ?? DEFAULT_MAX_PARALLELISM;
  return Math.max(1, Math.min(OVERLAPPED_BUNDLES, Math.floor(limit / parallelism)));
}

/**
 * The parallelism at which every vertex has so many subtasks as `subtasks` says; undefined where there is none, which
 * then is another plan's.
 */
export function parallelismFor(
  graph: ExecutionGraph,
  settings: JobSettings,
  subtasks: ReadonlyMap<string, number>,
): number | undefined {
  return [...new Set(subtasks.values())].find((parallelism) => {
    const planned = vertexParallelism(graph, parallelism, stateSubtasks(graph, settings, parallelism));
    return [...planned].every(([vertexId, count]) => subtasks.get(vertexId) === count);
  });
}

/** True for a TestStream's vertex. */
function isTestStream(vertex: VertexSpec): boolean {
  return vertex.head.kind === "test-stream";
}

export function planStreaming(init: StreamingPlanInit): StreamingPlan {
  const { graph, workers, restore = () => NOTHING_RESTORED } = init;
  assert(workers.length > 0, "tasks need a worker");
  const parallelismOf = vertexParallelism(graph, init.parallelism, init.stateSubtasks ?? 1);
  const edgesOf = outputEdges(graph, parallelismOf);
  const regions = pipelinedRegions(graph);
  const tasks = graph.vertices.flatMap((vertex) => {
    const parallelism = present(parallelismOf.get(vertex.id), "the vertex's parallelism");
    const region = regions.findIndex((vertexIds) => vertexIds.has(vertex.id));
    // Regions begin at one worker after the other: what is lost with a worker is in as few of them as can be.
    const workerOf = (subtaskIndex: number) => present(workers[(region + subtaskIndex) % workers.length], "a worker");
    return Array.from({ length: parallelism }, (_, subtaskIndex): PlacedTask => {
      const key = taskKey(vertex.id, subtaskIndex);
      const deployment: StreamTaskDeployment = {
        vertexId: vertex.id,
        subtaskIndex,
        parallelism,
        inputs: datasetsInto(vertex).flatMap((datasetId) =>
          inputChannels(graph, datasetId, subtaskIndex, parallelismOf, workerOf),
        ),
        outputs: edgesOf.get(vertex.id) ?? [],
        ...restore(vertex.id, subtaskIndex, parallelism),
      };
      return { key, region, vertex, workerId: workerOf(subtaskIndex).workerId, deployment };
    });
  });
  return {
    tasks,
    regions: regions.map((vertexIds, index) => plannedRegion(index, vertexIds, tasks)),
    loads: workerLoads(tasks),
    testStreams: tasks.filter(({ vertex }) => isTestStream(vertex)),
  };
}

function plannedRegion(index: number, vertexIds: ReadonlySet<VertexId>, tasks: readonly PlacedTask[]): PlannedRegion {
  const own = tasks.filter(({ region }) => region === index);
  const byWorker = Map.groupBy(own, ({ workerId }) => workerId);
  const sources = own.filter(({ deployment }) => deployment.inputs.length === 0);
  return {
    index,
    vertexIds,
    byWorker: new Map([...byWorker].map(([id, placed]) => [id, placed.map(({ deployment }) => deployment)])),
    sourceWorkers: new Set(sources.map(({ workerId }) => workerId)),
  };
}

function workerLoads(tasks: readonly PlacedTask[]): ReadonlyMap<WorkerId, WorkerLoad> {
  const loads = new Map<WorkerId, WorkerLoad>();
  for (const { workerId, deployment } of tasks) {
    const { taskCount, channelCount } = loads.get(workerId) ?? { taskCount: 0, channelCount: 0 };
    const outputs = deployment.outputs.reduce((sum, edge) => sum + edge.consumerParallelism, 0);
    loads.set(workerId, {
      taskCount: taskCount + 1,
      channelCount: channelCount + deployment.inputs.length + outputs,
    });
  }
  return loads;
}

/** One subtask for a vertex that must not run in parallel, more for one with state, and all that `forward` joins them with. */
function vertexParallelism(
  graph: ExecutionGraph,
  parallelism: number,
  stateSubtasks: number,
): ReadonlyMap<VertexId, number> {
  const groupOf = connectedVertices(graph, ({ partitioner }) => partitioner === "forward");
  const single = new Set<ReadonlySet<VertexId>>();
  const stateful = new Set<ReadonlySet<VertexId>>();
  const withSideInput = new Set<ReadonlySet<VertexId>>();
  for (const vertex of graph.vertices) {
    const group = present(groupOf.get(vertex.id), "the vertex's group");
    if (vertex.singleton || vertex.head.kind === "impulse" || isTestStream(vertex)) single.add(group);
    if ((vertex.stage?.userStates.length ?? 0) > 0) stateful.add(group);
    // Each subtask has its side inputs' content.
    if ((vertex.stage?.sideInputs.length ?? 0) > 0) withSideInput.add(group);
  }
  const of = (group: ReadonlySet<VertexId>): number => {
    if (single.has(group)) return 1;
    return stateful.has(group) && !withSideInput.has(group) ? parallelism * stateSubtasks : parallelism;
  };
  return new Map(graph.vertices.map(({ id }) => [id, of(present(groupOf.get(id), "its group"))]));
}

function outputEdges(
  graph: ExecutionGraph,
  parallelismOf: ReadonlyMap<VertexId, number>,
): ReadonlyMap<VertexId, OutputEdge[]> {
  const edges = new Map<VertexId, OutputEdge[]>();
  for (const consumer of graph.vertices) {
    for (const datasetId of datasetsInto(consumer)) {
      const { producer } = present(graph.datasets[datasetId], `dataset ${datasetId}`);
      const consumerParallelism = present(parallelismOf.get(consumer.id), "the consumer's parallelism");
      const edge: OutputEdge = { datasetId, consumerVertexId: consumer.id, consumerParallelism };
      edges.set(producer, [...(edges.get(producer) ?? []), edge]);
    }
  }
  return edges;
}

function inputChannels(
  graph: ExecutionGraph,
  datasetId: DatasetId,
  subtaskIndex: number,
  parallelismOf: ReadonlyMap<VertexId, number>,
  workerOf: (subtaskIndex: number) => PlanWorker,
): InputChannel[] {
  const { producer, partitioner } = present(graph.datasets[datasetId], `dataset ${datasetId}`);
  const producers = present(parallelismOf.get(producer), `producer of dataset ${datasetId}`);
  const all = Array.from({ length: producers }, (_, index) => index);
  return all
    .filter((index) => partitioner !== "forward" || index === subtaskIndex)
    .map((producerSubtask) => {
      const { workerId, exchangeAddress } = workerOf(producerSubtask);
      return { datasetId, producerSubtask, producerWorkerId: workerId, exchangeAddress };
    });
}
