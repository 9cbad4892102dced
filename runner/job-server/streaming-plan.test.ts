import test from "ava";
import fc from "fast-check";
import type { SnapshotFile } from "../../proto/gen/worker.ts";
import type { WorkerId } from "../base/ids.ts";
import type { Partitioner } from "../graph/execution-graph.ts";
import { dataset, diamond, graphOf, runOf, vertex } from "./streaming-fixture.ts";
import {
  NOTHING_RESTORED,
  parallelismFor,
  planStreaming,
  stateSubtasks,
  streamingParallelism,
  taskKey,
} from "./streaming-plan.ts";

const workers = (count: number) =>
  Array.from({ length: count }, (_, index) => ({
    workerId: `w${index}` as WorkerId,
    exchangeAddress: `w${index}:1`,
  }));

test("subtasks of one index share a worker, and channels follow the partitioners", (t) => {
  const plan = planStreaming({ graph: diamond(), parallelism: 2, workers: workers(2) });
  t.deepEqual(
    plan.tasks.map(({ key, workerId }) => `${key} ${workerId}`),
    ["a.0 w0", "b.0 w0", "b.1 w1", "c.0 w0", "c.1 w1", "d.0 w0", "d.1 w1"],
  );
  t.deepEqual(
    plan.regions.map(({ sourceWorkers }) => [...sourceWorkers]),
    [["w0"]],
  );
  const second = plan.tasks.find(({ key }) => key === "d.1")?.deployment;
  t.deepEqual(
    second?.inputs.map((input) => `${input.datasetId} ${input.producerSubtask} ${input.exchangeAddress}`),
    ["bc 0 w0:1", "bc 1 w1:1", "bd 1 w1:1", "cd 0 w0:1", "cd 1 w1:1"],
  );
  const producer = plan.tasks.find(({ key }) => key === "b.1")?.deployment;
  t.deepEqual(
    producer?.outputs.map((edge) => `${edge.datasetId} → ${edge.consumerVertexId} ${edge.consumerParallelism}`),
    ["bc → c 2", "bc → d 2", "bd → d 2"],
  );
});

test("what a lone vertex feeds by forward is alone too", (t) => {
  const graph = graphOf(
    [vertex("a", "test-stream", []), vertex("b", "read", ["ab"]), vertex("c", "read", ["bc"])],
    [dataset("ab", "a", "forward"), dataset("bc", "b", "hash")],
  );
  const plan = planStreaming({ graph, parallelism: 3, workers: workers(1) });
  t.deepEqual(
    plan.tasks.map(({ key }) => key as string),
    ["a.0", "b.0", "c.0", "c.1", "c.2"],
  );
  t.deepEqual(
    plan.testStreams.map(({ key }) => key as string),
    ["a.0"],
  );
});

test("a task gets its own files to go on from", (t) => {
  const file = (path: string): SnapshotFile => ({ path, byteLength: 1n, sha256: "00", inFlight: false });
  const plan = planStreaming({
    graph: diamond(),
    parallelism: 2,
    workers: workers(1),
    restore: (id, index) => ({ ...NOTHING_RESTORED, restore: [file(taskKey(id, index))] }),
  });
  for (const { key, deployment } of plan.tasks) t.is(deployment.restore[0]?.path, key as string);
});

test("a harness that the user runs gets one subtask unless more are asked for", (t) => {
  const graph = diamond();
  t.is(streamingParallelism(graph, runOf(graph, { environment_type: "LOOPBACK" }).settings, 4), 1);
  t.is(streamingParallelism(graph, runOf(graph, { environment_type: "PROCESS" }).settings, 4), 4);
  t.is(streamingParallelism(graph, runOf(graph, { environment_type: "LOOPBACK", parallelism: 3 }).settings, 4), 3);
  t.is(streamingParallelism(graph, runOf(graph, { parallelism: 9, max_parallelism: 5 }).settings, 4), 5);
});

/** "b" has user state, "c" side inputs, too. */
function withUserState() {
  const stateful = (id: string, inputs: string[], sides: string[] = []) => {
    const { stage, ...rest } = vertex(id, "read", inputs, sides);
    return {
      ...rest,
      stage: { sideInputs: [], ...stage, userStates: [{ transformId: "t", localName: "s", protocolUrn: "" }] },
    };
  };
  return graphOf(
    [vertex("a", "impulse", []), stateful("b", ["ab"]) as never, stateful("c", ["ac"], ["bc"]) as never],
    [dataset("ab", "a", "hash"), dataset("ac", "a", "hash"), dataset("bc", "b", "broadcast")],
  );
}

test("in batch a vertex with state has more subtasks, unless it has side inputs or the user says how many", (t) => {
  const graph = diamond();
  t.is(stateSubtasks(graph, runOf(graph, { streaming: false }).settings, 2), 4);
  t.is(stateSubtasks(graph, runOf(graph, { streaming: true }).settings, 2), 1);
  t.is(stateSubtasks(graph, runOf(graph, { streaming: false, parallelism: 2 }).settings, 2), 1);
  t.is(stateSubtasks(graph, runOf(graph, { streaming: false, max_parallelism: 5 }).settings, 2), 2);
  t.is(stateSubtasks(graph, runOf(graph, { streaming: false, max_parallelism: 1 }).settings, 1), 1);

  const plan = planStreaming({ graph: withUserState(), parallelism: 1, stateSubtasks: 3, workers: workers(1) });
  t.deepEqual(
    plan.tasks.map(({ key }) => key as string),
    ["a.0", "b.0", "b.1", "b.2", "c.0"],
  );
});

test("a snapshot that fits no other number of subtasks is planned at its own, though vertices with state have more", (t) => {
  const graph = withUserState();
  const { settings } = runOf(graph, { streaming: false });
  const taken = planStreaming({
    graph,
    parallelism: 2,
    stateSubtasks: stateSubtasks(graph, settings, 2),
    workers: workers(2),
  });
  const boundTo = new Map(taken.tasks.map(({ deployment }) => [deployment.vertexId, deployment.parallelism]));
  t.true(new Set(boundTo.values()).size > 1);
  t.is(streamingParallelism(graph, settings, 9, boundTo), 2);
  t.is(parallelismFor(graph, settings, new Map([...boundTo].map(([id]) => [id, 7]))), undefined);
});

test("both ends of a plan know the same channels, whatever the graph", (t) => {
  const shape = fc.record({
    parallelism: fc.integer({ min: 1, max: 4 }),
    workerCount: fc.integer({ min: 1, max: 4 }),
    edges: fc.array(
      fc.record({
        from: fc.nat({ max: 4 }),
        to: fc.nat({ max: 4 }),
        side: fc.boolean(),
        partitioner: fc.constantFrom<Partitioner>("forward", "hash", "rebalance", "broadcast"),
      }),
      { maxLength: 10 },
    ),
  });
  fc.assert(
    fc.property(shape, ({ parallelism, workerCount, edges }) => {
      const used = edges.filter(({ from, to }) => from < to).map((edge, index) => ({ ...edge, id: `e${index}` }));
      const graph = graphOf(
        [0, 1, 2, 3, 4].map((index) => {
          const into = used.filter(({ to }) => to === index);
          const idsOf = (side: boolean) => into.filter((edge) => edge.side === side).map(({ id }) => id);
          return vertex(`v${index}`, into.length === 0 ? "impulse" : "read", idsOf(false), idsOf(true));
        }),
        used.map(({ id, from, partitioner }) => dataset(id, `v${from}`, partitioner)),
      );
      const plan = planStreaming({ graph, parallelism, workers: workers(workerCount) });
      const produced: string[] = [];
      const consumed: string[] = [];
      for (const { deployment, vertex: spec, workerId } of plan.tasks) {
        for (const edge of deployment.outputs) {
          const isForward = graph.datasets[edge.datasetId as never]?.partitioner === "forward";
          for (let index = 0; index < edge.consumerParallelism; index++)
            if (!isForward || index === deployment.subtaskIndex)
              produced.push(
                [edge.datasetId, deployment.subtaskIndex, workerId, edge.consumerVertexId, index].join(" "),
              );
        }
        for (const input of deployment.inputs)
          consumed.push(
            [input.datasetId, input.producerSubtask, input.producerWorkerId, spec.id, deployment.subtaskIndex].join(
              " ",
            ),
          );
      }
      t.deepEqual(produced.sort(), consumed.sort());
      t.is(new Set(consumed).size, consumed.length);
    }),
  );
});
