import test from "ava";
import { END_OF_GLOBAL_WINDOW, type Timestamp } from "../runner/time/timestamp.ts";
import { BundleFailedError, type BundleSplit, residualsOf } from "../runner/worker/task/bundle-attempt.ts";
import { type Collection, TestPipeline } from "../test/pipelines/test-pipeline.ts";
import { NOW_MS, StageOnHarness } from "../test/support/stage-on-harness.ts";
import { encodeWith } from "./element-coders.ts";
import { UNBOUNDED_STOP } from "./offset-range.ts";
import { FunctionRegistry } from "./user-functions.ts";
import type { WindowedValue } from "./windows.ts";

const signal = new AbortController().signal;

function values(outputs: Map<string, WindowedValue[]>, pcollectionId: string): unknown[] {
  return (outputs.get(pcollectionId) ?? []).map(({ value }) => value);
}

/** Reads a collection in another stage: what nobody reads is not written. */
function read(pipeline: TestPipeline, collection: Collection): void {
  const grouped = pipeline.groupByKey(`group ${collection.id}`, collection);
  pipeline.parDo(`read ${collection.id}`, grouped, { function: "read" });
}

/** impulse → create (kept apart by a GroupByKey after it) → … */
function keyed(pipeline: TestPipeline) {
  return pipeline.parDo("create", pipeline.impulse("impulse"), {
    function: "create",
    output: { kv: ["string", "varint"] },
  });
}

test("a ParDo writes to each of its outputs, in its windows, through another ParDo of the stage", async (t) => {
  const functions = new FunctionRegistry()
    .register("split", (least: number) => ({
      process: (element, context) => {
        const bytes = element as Uint8Array;
        for (const byte of bytes)
          context.output(["byte", byte], { tag: byte < least ? "small" : "large", timestamp: byte });
      },
    }))
    .register("double", () => ({
      process: (element, context) => {
        const [key, value] = element as [string, number];
        context.output([key, value * 2], { windows: [{ start: 0, end: 100 }] });
      },
    }));
  const pipeline = new TestPipeline();
  const type = { kv: ["string", "varint"] } as const;
  const { small, large } = pipeline.parDoWithOutputs("split", pipeline.impulse("impulse"), {
    function: "split",
    argument: 10,
    outputs: { small: type, large: type },
  });
  const doubled = pipeline.parDo("double", small!, { function: "double", windowing: { fixedMs: 100 } });
  read(pipeline, doubled);
  read(pipeline, large!);
  const stage = new StageOnHarness(pipeline, "split", functions);
  const { outputs } = await stage.run([stage.encode(Uint8Array.of(3, 12, 4))]);
  t.deepEqual(values(outputs, doubled.id), [
    ["byte", 6],
    ["byte", 8],
  ]);
  t.deepEqual(outputs.get(doubled.id)?.[0]?.windows, [{ start: 0, end: 100 }]);
  t.deepEqual(values(outputs, large!.id), [["byte", 12]]);
  t.is(outputs.get(large!.id)?.[0]?.timestamp, 12 as Timestamp);
});

const stateful = () =>
  new FunctionRegistry()
    .register("create", () => ({}))
    .register("remember", () => ({
      process: async (element, context) => {
        const [key, value] = element as [string, number];
        if (value < 0) throw new Error(`no negative ${value}`);
        const last = context.value<number>("last");
        context.output([key, (await last.read()) ?? -1]);
        last.write(value);
        context.bag<number>("all").add(value);
        context.combining<number, number>("sum").add(value);
        context.timer("flush").set(END_OF_GLOBAL_WINDOW);
        context.timer("soon").set(context.processingTimeMs + 5, { tag: "t" });
        context.timer("soon").clear("other");
        if (value === 99) context.timer("flush").clear();
      },
      onTimer: async (timer, context) => {
        const all = await context.bag<number>("all").read();
        context.output([
          `${timer.family} ${String(context.key)} ${all.join("+")}`,
          await context.combining<number, number>("sum").read(),
        ]);
      },
    }))
    .registerCombine<number, number, number>("sum", {
      create: () => 0,
      add: (sum, value) => sum + value,
      merge: (sums) => sums.reduce((left, right) => left + right, 0),
      extract: (sum) => sum,
    });

function statefulStage(): StageOnHarness {
  const pipeline = new TestPipeline();
  const remembered = pipeline.parDo("remember", keyed(pipeline), {
    function: "remember",
    output: { kv: ["string", "varint"] },
    states: { last: { value: "varint" }, all: { bag: "varint" }, sum: { combining: "sum", accumulator: "varint" } },
    timers: { flush: "event", soon: "processing" },
  });
  read(pipeline, remembered);
  return new StageOnHarness(pipeline, "remember", stateful());
}

test("state of a key is read back in later bundles, and by its timers", async (t) => {
  const stage = statefulStage();
  const first = await stage.run(
    [
      ["a", 1],
      ["b", 7],
      ["a", 2],
    ].map((element) => stage.encode(element, 5)),
  );
  t.deepEqual(values(first.outputs, "remember.out"), [
    ["a", -1],
    ["b", -1],
    ["a", 1],
  ]);
  t.deepEqual(
    stage.timers
      .filter(({ family, key }) => family === "flush" && key === "b")
      .map(({ fireTimestamp }) => fireTimestamp),
    [END_OF_GLOBAL_WINDOW],
  );
  const second = await stage.run([stage.encode(["a", 3])]);
  t.deepEqual(values(second.outputs, "remember.out"), [["a", 2]]);
  t.true(stage.harness.harness.cacheHits > 0, "the cache token lets the harness keep what it has read");

  const family = stage.plan.timerFamilies.find((candidate) => candidate.family === "flush")!;
  const fired = encodeTimerOfKey("a");
  const third = await stage.run([], [{ transformId: family.transformId, timerFamilyId: "flush", timers: fired }]);
  t.deepEqual(values(third.outputs, "remember.out"), [["flush a 1+2+3", 6]]);

  function encodeTimerOfKey(key: string): Uint8Array {
    const times = new Uint8Array(16);
    times[0] = times[8] = 0x80;
    return new Uint8Array([...encodeWith(family.coders.key, key), 0, 0, 0, 0, 1, 0, ...times, 0x0f]);
  }
});

test("timers are set with their hold and tag, in order; cleared ones come as cleared", async (t) => {
  const stage = statefulStage();
  await stage.run([stage.encode(["a", 99], 5)]);
  const brief = stage.timers.map(({ family, tag, key, cleared, fireTimestamp, holdTimestamp }) =>
    cleared ? [family, tag, key] : [family, tag, key, fireTimestamp, holdTimestamp],
  );
  t.deepEqual(brief, [
    ["flush", "", "a", END_OF_GLOBAL_WINDOW, END_OF_GLOBAL_WINDOW],
    ["flush", "", "a"],
    ["soon", "t", "a", NOW_MS + 5, 5],
    ["soon", "other", "a"],
  ]);
});

test("user code that throws fails its bundle with the transform's name, and the runner's state stays as it was", async (t) => {
  const stage = statefulStage();
  await stage.run([stage.encode(["a", 1])]);
  const state = stage.state!.beginBundle();
  const failure = await t.throwsAsync(
    stage.attempt([stage.encode(["a", 2]), stage.encode(["a", -5])], new Map(), [], state).run(signal),
    { instanceOf: BundleFailedError },
  );
  state.abort();
  t.regex(failure.message, /no negative -5.*\[while running 'remember'\]/);
  const { outputs } = await stage.run([stage.encode(["a", 3])]);
  t.deepEqual(values(outputs, "remember.out"), [["a", 1]]);
});

/** Emits offsets: `perBundle` of them, then it defers what is left. */
const counting = (perBundle: number, finalized: number[] = []) =>
  new FunctionRegistry().register("count", (stop: number) => ({
    initialRestriction: () => ({ start: 0, stop }),
    truncate: (_element, range) => (range.stop === UNBOUNDED_STOP ? undefined : range),
    processRestriction: async (_element, context) => {
      const { start } = context.tracker.range;
      for (let offset = start; offset < start + perBundle; offset++) {
        if (!context.tracker.tryClaim(offset)) return undefined;
        context.output(["n", offset], { timestamp: offset * 1000 });
        context.setWatermark((offset + 1) * 1000);
        await context.turn();
      }
      context.onFinalized(() => finalized.push(start));
      return { resumeAfterMs: 1500 };
    },
  }));

function countingStage(
  functions: FunctionRegistry,
  stop: number,
  turn?: () => Promise<void>,
): { stage: StageOnHarness; sized: Uint8Array } {
  const pipeline = new TestPipeline();
  const counted = pipeline.splittable("count", pipeline.impulse("impulse"), {
    function: "count",
    argument: stop,
    output: { kv: ["string", "varint"] },
    bounded: stop !== UNBOUNDED_STOP,
    finalization: true,
  });
  read(pipeline, counted);
  const stage = new StageOnHarness(pipeline, "count", functions, turn);
  return { stage, sized: stage.encode([[Uint8Array.of(), [[0, stop], 0]], stop]) };
}

test("a splittable DoFn checkpoints itself, tells delay and watermark, and goes on from its residual", async (t) => {
  const finalized: number[] = [];
  const { stage, sized } = countingStage(counting(2, finalized), 3);
  const first = await stage.run([sized]);
  t.deepEqual(values(first.outputs, "count.out"), [
    ["n", 0],
    ["n", 1],
  ]);
  t.true(first.response.requiresFinalization);
  const [residual, ...more] = residualsOf(first.response.residualRoots);
  t.is(more.length, 0);
  t.is(residual!.delayMs, 1500);
  t.is(residual!.watermarkMs, 2000);
  const second = await stage.run([residual!.element]);
  t.deepEqual(values(second.outputs, "count.out"), [["n", 2]]);
  t.deepEqual(second.response.residualRoots, []);
});

test("finalization calls back once, for the bundle that asked for it", async (t) => {
  const finalized: number[] = [];
  const { stage, sized } = countingStage(counting(2, finalized), UNBOUNDED_STOP);
  const { connection } = stage.harness;
  const attempt = stage.attempt([sized], new Map());
  await attempt.run(signal);
  t.deepEqual(finalized, []);
  for (let time = 0; time < 2; time++) {
    const request = { $case: "finalizeBundle", value: { instructionId: attempt.instructionId } } as const;
    const answer = await connection.instruct(connection.newInstructionId(), request);
    t.is(answer.error, "");
  }
  t.deepEqual(finalized, [0]);
});

test("a split at 0 gives back the rest of the running restriction and the elements behind it", async (t) => {
  const turns = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  let count = 0;
  const turn = async () => {
    if (++count !== 3) return;
    reached.resolve();
    await turns.promise;
  };
  const { stage, sized } = countingStage(counting(1000), 10, turn);
  const outputs = new Map<string, WindowedValue[]>();
  const attempt = stage.attempt([sized, sized], outputs);
  const running = attempt.run(signal);
  await reached.promise;
  let split: BundleSplit | undefined;
  await attempt.split(0, (accepted) => {
    split = accepted;
  });
  turns.resolve();
  const { residualRoots } = await running;
  t.deepEqual(residualRoots, []);
  t.deepEqual(
    values(outputs, "count.out"),
    [0, 1, 2].map((offset) => ["n", offset]),
  );
  t.is(split!.residuals.length, 1);
  t.is(split!.residualChannel.elementCount, 1);
  const rest = await stage.run([split!.residuals[0]!.element]);
  t.deepEqual(
    values(rest.outputs, "count.out"),
    [3, 4, 5, 6, 7, 8, 9].map((offset) => ["n", offset]),
  );
  // What a retry would run is the primary alone.
  const again = await stage.run(attempt.retainedInput.chunks.map(({ data }) => data));
  t.deepEqual(
    values(again.outputs, "count.out"),
    [0, 1, 2].map((offset) => ["n", offset]),
  );
});

test("a harness that is killed fails its bundle as one that may be tried again", async (t) => {
  const never = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  const { stage, sized } = countingStage(counting(1000), 10, () => {
    reached.resolve();
    return never.promise;
  });
  const running = stage.attempt([sized], new Map()).run(signal);
  await reached.promise;
  stage.harness.kill("it was killed");
  const failure = await t.throwsAsync(running, { message: /is lost: it was killed/ });
  t.like(failure, { retry: true });
});
