// Barriers that overtake, at one whole task: what they pass is in the snapshot, and comes back from it.
import test from "ava";
import { ManualClock } from "../../job-server/streaming-fixture.ts";
import { FunctionRegistry } from "../../../sdk-harness/user-functions.ts";
import { TestPipeline } from "../../../test/pipelines/test-pipeline.ts";
import { TaskOnHarness, type TakenSnapshot } from "../../../test/support/task-on-harness.ts";

const FIRST = { start: 0, end: 10 };
const SECOND = { start: 10, end: 20 };

function pipeline(): TestPipeline {
  const made = new TestPipeline();
  const main = made.parDo("main", made.impulse("impulse"), {
    function: "main",
    output: "string",
    windowing: { fixedMs: 10 },
  });
  const side = made.parDo("side", main, { function: "side" });
  const joined = made.parDo("join", main, {
    function: "join",
    output: { kv: ["string", "string"] },
    iterableSideInputs: { side },
  });
  made.parDo("last", made.groupByKey("group", joined), { function: "last", output: "string" });
  return made;
}

/** `join` tells each element with the side input of its window, once it may. */
function join(gate: Promise<void> = Promise.resolve()) {
  const begun: unknown[] = [];
  const functions = new FunctionRegistry().register("join", () => ({
    process: async (element, context) => {
      begun.push(element);
      await gate;
      context.output([element, (await context.sideInput<string>("side")).join()]);
    },
  }));
  return { functions, begun };
}

function open(functions: FunctionRegistry, clock = new ManualClock(), snapshot?: TakenSnapshot): TaskOnHarness {
  return new TaskOnHarness(pipeline(), "join", functions, clock, snapshot);
}

function snapshotOf(task: TaskOnHarness, checkpointId: number): TakenSnapshot {
  const snapshot = task.snapshotOf(checkpointId);
  if (snapshot === undefined) throw new Error(`no snapshot ${checkpointId}`);
  return snapshot;
}

test("side input that came while a bundle ran is in the snapshot of a barrier that overtakes", async (t) => {
  const gate = Promise.withResolvers<void>();
  const { functions, begun } = join(gate.promise);
  const task = open(functions);
  t.teardown(() => task.close());
  task.put("side", "one", 1, FIRST);
  task.advance("side", 10);
  task.put("main", "a", 1, FIRST);
  await task.until("a bundle", () => begun.length === 1);
  // The second window's: they wait for the bundle's end.
  task.put("side", "two", 11, SECOND);
  task.advance("side", 20);
  await task.until("the side input is taken in", () => task.hasReadAll);
  task.put("main", "b", 11, SECOND);
  task.barrier({ checkpointId: 1, overtakesAfterMs: 0 });
  await task.until("a snapshot", () => task.snapshotOf(1) !== undefined);
  const snapshot = snapshotOf(task, 1);
  t.true(snapshot.report.unaligned);
  t.is(snapshot.inFlight.get("in-flight-side")?.size, 2);
  t.deepEqual(begun, ["a"]);
  gate.resolve();

  const restored = open(join().functions, new ManualClock(), snapshot);
  t.teardown(() => restored.close());
  await restored.until("both elements", () => restored.valuesOf(restored.unsent).length === 2);
  t.deepEqual(restored.valuesOf(restored.unsent), [
    ["a", "one"],
    ["b", "two"],
  ]);
});

test("output that an aligned barrier overtakes at last is in the snapshot, which is whole only then", async (t) => {
  const clock = new ManualClock();
  const task = open(join().functions, clock);
  t.teardown(() => task.close());
  task.put("side", "one", 1, FIRST);
  task.advance("side", 10);
  task.put("main", "a", 1, FIRST);
  await task.until("output", () => task.valuesOf(task.unsent).length === 1);
  task.barrier({ checkpointId: 1, overtakesAfterMs: 50 });
  const barrierIndex = () => task.unsent.findIndex(({ kind }) => kind === "barrier");
  await task.until("the barrier goes out", () => barrierIndex() >= 0);
  t.is(task.unsent[0]?.kind, "data");
  await clock.advance(49);
  t.is(task.snapshotOf(1), undefined);
  t.true(barrierIndex() > 0);
  await clock.advance(1);
  await task.until("a snapshot", () => task.snapshotOf(1) !== undefined);
  t.is(barrierIndex(), 0);
  t.deepEqual(task.valuesOf(task.unsent), [["a", "one"]]);
  const snapshot = snapshotOf(task, 1);
  t.deepEqual(
    { ...snapshot.report, inFlightBytes: snapshot.report.inFlightBytes > 0 },
    {
      alignmentMs: 0,
      commitWaitMs: 50,
      writeMs: 0,
      inFlightBytes: true,
      unaligned: true,
      waitedFor: "output before the barrier that was not sent",
    },
  );

  const { functions, begun } = join();
  const restored = open(functions, new ManualClock(), snapshot);
  t.teardown(() => restored.close());
  restored.put("main", "c", 2, FIRST);
  await restored.until("more output", () => restored.valuesOf(restored.unsent).length > 1);
  t.deepEqual(begun, ["c"]);
  t.deepEqual(restored.valuesOf(restored.unsent), [
    ["a", "one"],
    ["c", "one"],
  ]);
});

test("an aligned barrier whose output is sent before its time overtakes nothing", async (t) => {
  const task = open(join().functions);
  t.teardown(() => task.close());
  task.barrier({ checkpointId: 1, overtakesAfterMs: 50 });
  await task.until("the barrier goes out", () => task.unsent.some(({ kind }) => kind === "barrier"));
  task.send();
  await task.until("a snapshot", () => task.snapshotOf(1) !== undefined);
  const { report, inFlight } = snapshotOf(task, 1);
  t.false(report.unaligned);
  t.is(inFlight.size, 0);
});
