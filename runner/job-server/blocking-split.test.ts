import test from "ava";
import type { DatasetId, TaskAttemptId, WorkerId } from "../base/ids.ts";
import type { ExecutableStageSpec, ExecutionGraph, VertexSpec } from "../graph/execution-graph.ts";
import { BlockingSchedule, type PlannedTask, type SealedDatasetFact } from "./blocking-schedule.ts";
import { dataset, graphOf, vertex } from "./streaming-fixture.ts";

const W1 = "w1" as WorkerId;
const W2 = "w2" as WorkerId;
const STAGE = { sideInputs: [], sinks: [] } as unknown as ExecutableStageSpec;

/** impulse a → (hash) b → (hash) c; b and c have a stage */
function chain(): ExecutionGraph {
  const of = (id: string, head: "impulse" | "read", inputs: string[], outputs: string[]): VertexSpec => ({
    ...vertex(id, head, inputs),
    stage: head === "read" ? STAGE : undefined,
    headOutputs: outputs as DatasetId[],
  });
  return graphOf(
    [of("a", "impulse", [], ["ab"]), of("b", "read", ["ab"], ["bc"]), of("c", "read", ["bc"], [])],
    [dataset("ab", "a", "hash"), dataset("bc", "b", "hash")],
  );
}

function open(parallelism: number): BlockingSchedule {
  const limits = { explicitParallelism: true, bytesPerSubtask: 1024, maxTaskAttempts: 1_000 };
  return new BlockingSchedule({ graph: chain(), parallelism, ...limits });
}

function sealedOf(task: PlannedTask): SealedDatasetFact[] {
  return Object.entries(task.outputPartitions).map(([datasetId, count]) => ({
    datasetId: datasetId as DatasetId,
    partitions: Array.from({ length: count }, (_, index) => ({ index, byteLength: 1, elementCount: 1 })),
  }));
}

let gifts = 0;
function giftOf(task: PlannedTask, workerId: WorkerId) {
  const datasetId = `given-${++gifts}` as DatasetId;
  return { datasetId, attemptId: task.attemptId, workerId, index: 0, byteLength: 1, elementCount: 1 };
}

/** Starts the first task that is ready. */
function start(schedule: BlockingSchedule, workerId: WorkerId): PlannedTask {
  const [task] = schedule.ready(1);
  if (task === undefined) throw new Error("nothing is ready");
  schedule.started(task, workerId);
  return task;
}

function openAtB(): { schedule: BlockingSchedule; b: PlannedTask } {
  const schedule = open(2);
  const a = start(schedule, W1);
  schedule.finished(a.attemptId, sealedOf(a));
  const b = start(schedule, W1);
  const other = start(schedule, W1);
  schedule.finished(other.attemptId, sealedOf(other));
  return { schedule, b };
}

test("what a running attempt gives away is another subtask, which the vertex waits for", (t) => {
  const { schedule, b } = openAtB();
  t.true(schedule.isSplittable(b.attemptId));
  const gift = giftOf(b, W1);
  t.true(schedule.split(b.attemptId, gift));
  const child = start(schedule, W2);
  t.is(child.vertex.id, b.vertex.id);
  t.deepEqual(child.mainInput, [gift]);
  t.false(schedule.isSplittable(b.attemptId), "as wide as the job allows");
  schedule.finished(b.attemptId, sealedOf(b));
  t.deepEqual(schedule.ready(1), []);
  schedule.finished(child.attemptId, sealedOf(child));
  const c = start(schedule, W1);
  t.true(c.mainInput.some((input) => input.attemptId === child.attemptId));
  t.true(c.mainInput.some((input) => input.attemptId === b.attemptId));
});

test("an attempt that fails takes with it what it has given away: it runs again whole", (t) => {
  const { schedule, b } = openAtB();
  schedule.split(b.attemptId, giftOf(b, W1));
  const child = start(schedule, W2);
  schedule.finished(child.attemptId, sealedOf(child));
  t.deepEqual(schedule.failed(b.attemptId, []), { kind: "restart", cancel: [child.attemptId] });
  t.false(schedule.finishedAttempts().includes(child.attemptId));
  const again = start(schedule, W2);
  t.deepEqual(again.mainInput, b.mainInput);
  t.deepEqual(schedule.ready(1), []);
  t.false(schedule.split(b.attemptId, giftOf(b, W1)), "of an attempt that does not count any more");
});

test("what was given away and cannot be read is made again by its giver", (t) => {
  const { schedule, b } = openAtB();
  schedule.split(b.attemptId, giftOf(b, W1));
  schedule.finished(b.attemptId, sealedOf(b));
  const child = start(schedule, W2);
  const decision = schedule.failed(child.attemptId, [b.attemptId]);
  t.deepEqual(decision, { kind: "restart", cancel: [b.attemptId] });
  t.deepEqual(start(schedule, W2).mainInput, b.mainInput);
  t.deepEqual(schedule.ready(1), []);
});

test("a worker that is lost with what was given away costs the giver's work, while that is still to be read", (t) => {
  const schedule = open(1);
  for (let at = 0; at < 2; at++) {
    const task = start(schedule, W2);
    schedule.finished(task.attemptId, sealedOf(task));
  }
  const c = start(schedule, W1);
  schedule.split(c.attemptId, giftOf(c, W1));
  schedule.finished(c.attemptId, []);
  t.deepEqual(schedule.workerLost(W1), { kind: "restart", cancel: [c.attemptId] });
  t.deepEqual(start(schedule, W2).mainInput, c.mainInput);
  t.deepEqual(schedule.ready(1), []);
});

test("of an impulse, a finished attempt and a stale one nothing is given away", (t) => {
  const schedule = open(1);
  const a = start(schedule, W1);
  t.false(schedule.isSplittable(a.attemptId));
  schedule.finished(a.attemptId, sealedOf(a));
  t.false(schedule.isSplittable(a.attemptId));
  t.false(schedule.split("never" as TaskAttemptId, giftOf(a, W1)));
});

test("however attempts split, fail and lose their workers, each unit of input counts exactly once", (t) => {
  for (let seed = 1; seed <= 200; seed++) {
    let state = seed;
    const random = (below: number) => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((state / 2_147_483_648) * below);
    };
    const schedule = open(3);
    const running = new Map<TaskAttemptId, { task: PlannedTask; workerId: WorkerId; units: string[] }>();
    const given = new Map<DatasetId, string[]>();
    const covered = new Map<TaskAttemptId, { vertex: string; units: string[] }>();
    const unitsOf = ({ vertex: { id }, mainInput, subtaskIndex }: PlannedTask): string[] => {
      const gift = given.get(mainInput[0]?.datasetId as DatasetId);
      if (gift !== undefined) return [...gift];
      if (id === "a") return Array.from({ length: 8 }, (_, at) => `${id}.${at}`);
      const indexes = [...new Set(mainInput.map(({ index }) => index))];
      t.true(indexes.length > 0, `subtask ${subtaskIndex} reads something`);
      return indexes.flatMap((index) => Array.from({ length: 8 }, (_, at) => `${id}.${index}.${at}`));
    };
    const takeBack = (attemptIds: readonly TaskAttemptId[]) => {
      for (const attemptId of attemptIds) {
        running.delete(attemptId);
        covered.delete(attemptId);
      }
    };
    for (let step = 0; step < 2_000 && !schedule.done; step++) {
      const [attemptId, attempt] = [...running][random(running.size)] ?? [];
      const action = random(10);
      if (attempt === undefined || attemptId === undefined || action < 3) {
        const [task] = schedule.ready(1);
        if (task === undefined || running.size >= 4) continue;
        const workerId = random(2) === 0 ? W1 : W2;
        schedule.started(task, workerId);
        running.set(task.attemptId, { task, workerId, units: unitsOf(task) });
      } else if (action < 6) {
        if (!schedule.isSplittable(attemptId) || attempt.units.length < 2) continue;
        const gift = giftOf(attempt.task, attempt.workerId);
        given.set(gift.datasetId, attempt.units.splice(Math.ceil(attempt.units.length / 2)));
        t.true(schedule.split(attemptId, gift));
      } else if (action < 9) {
        running.delete(attemptId);
        t.true(schedule.finished(attemptId, sealedOf(attempt.task)));
        covered.set(attemptId, { vertex: attempt.task.vertex.id, units: attempt.units });
      } else if (random(3) === 0) {
        const decision = schedule.failed(attemptId, []);
        running.delete(attemptId);
        takeBack(decision.kind === "restart" ? decision.cancel : []);
      } else if (random(8) === 0) {
        const lost = attempt.workerId;
        for (const [id, { workerId }] of running) if (workerId === lost) running.delete(id);
        const decision = schedule.workerLost(lost);
        takeBack(decision.kind === "restart" ? decision.cancel : []);
      }
      if (random(5) === 0) schedule.releasable();
    }
    t.true(schedule.done, `seed ${seed}`);
    const counted = schedule.finishedAttempts().map((attemptId) => covered.get(attemptId));
    const byVertex = (id: string) =>
      counted
        .filter((cover) => cover?.vertex === id)
        .flatMap((cover) => cover?.units ?? [])
        .sort();
    const whole = (id: string) =>
      [0, 1, 2].flatMap((index) => Array.from({ length: 8 }, (_, at) => `${id}.${index}.${at}`)).sort();
    t.deepEqual(byVertex("b"), whole("b"), `seed ${seed}`);
    t.deepEqual(byVertex("c"), whole("c"), `seed ${seed}`);
  }
});
