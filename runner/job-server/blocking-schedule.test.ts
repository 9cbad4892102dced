import test from "ava";
import type { DatasetId, VertexId, WorkerId } from "../base/ids.ts";
import type { DatasetSpec, ExecutionGraph, Partitioner, VertexSpec } from "../graph/execution-graph.ts";
import { BlockingSchedule, type PlannedTask } from "./blocking-schedule.ts";

const W1 = "w1" as WorkerId;
const W2 = "w2" as WorkerId;

function vertex(id: string, inputs: string[], outputs: string[], head: VertexSpec["head"]): VertexSpec {
  return {
    id: id as VertexId,
    name: id,
    head,
    inputs: inputs as DatasetId[],
    stage: undefined,
    headOutputs: outputs as DatasetId[],
    keyed: false,
    singleton: false,
  };
}

function dataset(id: string, producer: string, partitioner: Partitioner): DatasetSpec {
  return {
    id: id as DatasetId,
    pcollectionId: id,
    producer: producer as VertexId,
    coderId: "c",
    windowingId: "w",
    partitioner,
    sizedRestrictions: false,
    unbounded: false,
  };
}

/** impulse → a → (hash) b → (hash) c */
function chain(): ExecutionGraph {
  const read = { kind: "read" } as const;
  return {
    vertices: [
      vertex("a", [], ["ab"], { kind: "impulse" }),
      vertex("b", ["ab"], ["bc"], read),
      vertex("c", ["bc"], [], read),
    ],
    datasets: { ab: dataset("ab", "a", "hash"), bc: dataset("bc", "b", "hash") } as ExecutionGraph["datasets"],
    coders: {},
    windowings: {},
    environments: {},
    unbounded: false,
  };
}

function open(parallelism: number): BlockingSchedule {
  return new BlockingSchedule({
    graph: chain(),
    parallelism,
    explicitParallelism: true,
    bytesPerSubtask: 1024,
    maxTaskAttempts: 3,
  });
}

function finish(schedule: BlockingSchedule, task: PlannedTask, worker: WorkerId): boolean {
  schedule.started(task, worker);
  return schedule.finished(task.attemptId, sealedOf(task));
}

function sealedOf(task: PlannedTask) {
  return Object.entries(task.outputPartitions).map(([datasetId, count]) => ({
    datasetId: datasetId as DatasetId,
    partitions: Array.from({ length: count }, (_, index) => ({ index, byteLength: 10, elementCount: 1 })),
  }));
}

function only(tasks: PlannedTask[]): PlannedTask {
  const [task] = tasks;
  if (task === undefined || tasks.length !== 1) throw new Error(`expected one task, got ${tasks.length}`);
  return task;
}

test("a vertex runs only when all that it reads is sealed, and every partition is read by exactly one subtask", (t) => {
  const schedule = open(2);
  finish(schedule, only(schedule.ready(10)), W1);
  const middle = schedule.ready(10);
  t.deepEqual(
    middle.map((task) => task.mainInput.map((input) => input.index)),
    [[0], [1]],
  );
  finish(schedule, middle[0] as PlannedTask, W1);
  t.deepEqual(
    schedule.ready(10).map((task) => task.attemptId.split(".")[0]),
    ["b"],
  );
  t.false(schedule.done);
});

test("losing a worker with sealed partitions that are still needed runs their producer again", (t) => {
  const schedule = open(1);
  const a = only(schedule.ready(10));
  finish(schedule, a, W1);
  const b = only(schedule.ready(10));
  schedule.started(b, W2);
  t.deepEqual(schedule.workerLost(W1), { kind: "restart", cancel: [a.attemptId, b.attemptId] });
  t.is(only(schedule.ready(10)).vertex.id, "a" as VertexId);
  t.false(schedule.finished(b.attemptId, sealedOf(b)), "the attempt that read the lost partition is stale");
});

test("losing a worker whose partitions are consumed costs nothing", (t) => {
  const schedule = open(1);
  finish(schedule, only(schedule.ready(10)), W1);
  finish(schedule, only(schedule.ready(10)), W2);
  t.deepEqual(schedule.workerLost(W1), { kind: "restart", cancel: [] });
  t.is(only(schedule.ready(10)).vertex.id, "c" as VertexId);
});

test("a released input is made again when its consumer's output is lost", (t) => {
  const schedule = open(1);
  const a = only(schedule.ready(10));
  finish(schedule, a, W1);
  finish(schedule, only(schedule.ready(10)), W2);
  t.deepEqual(schedule.releasable(), [a.attemptId]);
  t.deepEqual(schedule.releasable(), []);
  schedule.workerLost(W2);
  t.is(only(schedule.ready(10)).vertex.id, "a" as VertexId);
});

test("a task that keeps failing is exhausted after its attempts", (t) => {
  const schedule = open(1);
  for (const expected of ["restart", "restart", "exhausted"] as const) {
    const task = only(schedule.ready(10));
    schedule.started(task, W1);
    t.is(schedule.failed(task.attemptId, []).kind, expected);
  }
});

test("a task that loses its worker every time is exhausted, although its input is made anew each time", (t) => {
  const schedule = open(1);
  for (const expected of ["restart", "restart", "exhausted"] as const) {
    finish(schedule, only(schedule.ready(10)), W1);
    schedule.started(only(schedule.ready(10)), W1);
    t.is(schedule.workerLost(W1).kind, expected);
  }
});

test("every schedule of losses ends with all vertices finished once on live workers", (t) => {
  for (let loss = 0; loss < 4; loss++) {
    const schedule = open(3);
    const workers = [W1, W2];
    let steps = 0;
    while (!schedule.done && steps++ < 100) {
      if (steps === loss + 1) schedule.workerLost(W1);
      schedule.ready(2).forEach((task, index) => finish(schedule, task, workers[index % 2] ?? W1));
    }
    t.true(schedule.done);
    t.is(new Set(schedule.finishedAttempts()).size, 1 + 3 + 3);
  }
});
