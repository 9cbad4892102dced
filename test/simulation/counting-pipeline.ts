/**
 * The pipeline of the simulation, its functions and its oracle. Splittable sources emit numbered elements; they are
 * counted in windows by a stateful DoFn with an event-time timer, summed in the same windows by a GroupByKey, and put
 * off by a stateful DoFn with a processing-time timer. At the end of time each key tells all that has arrived for it. Beside
 * it there may be another such part with keys of its own, which no channel connects with the first.
 *
 * Oracle: what a key tells is known beforehand, exactly: no element lost, none counted twice, whatever crashed. It may
 * be told several times (a bundle runs again), and is the same each time. Offsets that a source was told are final, by
 * bundle finalization, are never read again. A stage with stable input never sees an element in two versions, though
 * what is before it makes another one each time that it runs. Committed metrics count each element once.
 */
import { END_OF_GLOBAL_WINDOW } from "../../runner/time/timestamp.ts";
import { FunctionRegistry } from "../../sdk-harness/user-functions.ts";
import type { IntervalWindow } from "../../sdk-harness/windows.ts";
import { type Collection, TestPipeline } from "../pipelines/test-pipeline.ts";
import type { SeededRandom } from "./simulated-time.ts";

export interface CountingShape {
  readonly partitions: number;
  readonly elementsPerPartition: number;
  readonly keys: number;
  readonly windowMs: number;
  readonly withGroupByKey: boolean;
  readonly withProcessingTimers: boolean;
  readonly withSideInput: boolean;
  readonly withStableInput: boolean;
  /** Of simulated time, that an element is counted for at most: a consumer that is too slow for its source. */
  readonly slowMs: number;
  readonly finalization: boolean;
  /** Another region: the same source, counted. */
  readonly withOtherRegion: boolean;
}

/** Of one element to the next, in event time. */
const STEP_MS = 10;
const OFFSETS = 100_000;
/** Versions of an element. */
const VERSIONS = 1_000;
/** What goes into the stage that counts. */
const COUNTED_COLLECTION = "window.out";
const OTHER_COUNTED_COLLECTION = "window other.out";
/** From here on partitions are the other region's. */
const OTHER_PARTITIONS = 1_000;

/** What the functions do to the world outside, and what went wrong there. */
export class CountingWorld {
  readonly shape: CountingShape;
  readonly complaints: string[] = [];
  readonly told = new Set<string>();
  tellings = 0;
  finalizations = 0;
  readonly #committed = new Set<number>();
  readonly #stable = new Map<number, number>();
  #tracksFinal = true;
  /** By PCollection, as the job's committed metrics have them. */
  elementCounts: ReadonlyMap<string, number> = new Map();
  readonly #expected: ReadonlyMap<string, string>;

  constructor(shape: CountingShape) {
    this.shape = shape;
    this.#expected = expectedOf(shape);
  }

  tell(key: string, text: string): void {
    this.tellings++;
    this.told.add(key);
    const expected = this.#expected.get(key);
    if (text !== expected) this.complaints.push(`${key}: ${difference(expected ?? "", text)}`);
  }

  /** A source reads an element. */
  reads(partition: number, offset: number): void {
    if (this.#tracksFinal && this.#committed.has(partition * OFFSETS + offset))
      this.complaints.push(`offset ${offset} of partition ${partition} is read again after it was committed`);
  }

  /** Offsets [start, end) are final. */
  commits(partition: number, start: number, end: number): void {
    this.finalizations++;
    for (let offset = start; offset < end; offset++) this.#committed.add(partition * OFFSETS + offset);
  }

  /** A stage with stable input was given an element. */
  sees(number: number, version: number): void {
    const before = this.#stable.get(number);
    if (this.#tracksFinal && before !== undefined && before !== version)
      this.complaints.push(`stable input ${number} came in two versions`);
    this.#stable.set(number, version);
  }

  /** The job goes back behind a complete checkpoint: what that one made final may be done again. */
  wentFurtherBack(): void {
    this.#tracksFinal = false;
  }

  /** When the job is done. */
  finish(): void {
    const wanted = this.shape.partitions * this.shape.elementsPerPartition;
    for (const collection of [COUNTED_COLLECTION, ...(this.shape.withOtherRegion ? [OTHER_COUNTED_COLLECTION] : [])]) {
      const counted = this.elementCounts.get(collection);
      if (counted !== wanted)
        this.complaints.push(`committed metrics have counted ${counted} elements of ${wanted} in ${collection}`);
    }
    for (const key of this.#expected.keys()) if (!this.told.has(key)) this.complaints.push(`${key} was never told`);
  }
}

function difference(expected: string, actual: string): string {
  const left = expected.split(" ");
  const right = actual.split(" ");
  const count = (items: readonly string[], item: string) => items.filter((other) => other === item).length;
  const all = [...new Set([...left, ...right])];
  const wrong = all.filter((item) => count(left, item) !== count(right, item));
  const told = wrong.slice(0, 8).map((item) => `${item} ×${count(right, item)} instead of ×${count(left, item)}`);
  return `${told.join(", ")}${wrong.length > 8 ? ` and ${wrong.length - 8} more` : ""}`;
}

function keyOf(partition: number, offset: number, keys: number): string {
  const number = (partition * 7 + offset * 13 + (offset >> 3)) % keys;
  return partition >= OTHER_PARTITIONS ? `other ${number}` : `k${number}`;
}

function expectedOf(shape: CountingShape): Map<string, string> {
  const { partitions, elementsPerPartition, keys, windowMs } = shape;
  const items = new Map<string, string[]>();
  const windows = new Map<string, { key: string; start: number; count: number; sum: number }>();
  const add = (key: string, item: string) => items.set(key, [...(items.get(key) ?? []), item]);
  const own = Array.from({ length: partitions }, (_, partition) => partition);
  const others = shape.withOtherRegion ? own.map((partition) => OTHER_PARTITIONS + partition) : [];
  for (const partition of [...own, ...others])
    for (let offset = 0; offset < elementsPerPartition; offset++) {
      const key = keyOf(partition, offset, keys);
      const number = partition * OFFSETS + offset;
      const start = Math.floor((offset * STEP_MS) / windowMs) * windowMs;
      const id = `${key}/${start}`;
      const window = windows.get(id) ?? { key, start, count: 0, sum: 0 };
      windows.set(id, { ...window, count: window.count + 1, sum: window.sum + number });
      if (partition >= OTHER_PARTITIONS) continue;
      if (shape.withProcessingTimers) add(key, `p${number}`);
      if (shape.withStableInput) add(key, `s${number}`);
    }
  for (const { key, start, count, sum } of windows.values()) {
    add(key, `w${start}:${count}:${sum}`);
    if (shape.withGroupByKey && key.startsWith("k")) add(key, `g${start}:${count}:${sum}`);
  }
  return new Map([...items].map(([key, all]) => [key, all.sort().join(" ")]));
}

export function countingPipeline(shape: CountingShape): TestPipeline {
  const pipeline = new TestPipeline();
  const keyed = { kv: ["string", "varint"] } as const;
  const texts = { kv: ["string", "string"] } as const;
  const partitions = pipeline.parDo("partitions", pipeline.impulse("impulse"), {
    function: "partitions",
    output: "varint",
  });
  const read = pipeline.splittable("read", partitions, {
    function: "read",
    output: keyed,
    bounded: false,
    finalization: shape.finalization,
  });
  const zero = shape.withSideInput
    ? { zero: pipeline.parDo("zero", pipeline.impulse("impulse zero"), { function: "zero", output: "varint" }) }
    : {};
  const windowed = pipeline.parDo("window", read, {
    function: shape.withSideInput ? "window with side input" : "window",
    windowing: { fixedMs: shape.windowMs },
    iterableSideInputs: zero,
  });
  const results: Collection[] = [
    pipeline.parDo("count", windowed, {
      function: "count",
      output: texts,
      windowing: "global",
      states: { count: { combining: "sum", accumulator: "varint" }, all: { bag: "varint" } },
      timers: { end: "event" },
    }),
  ];
  if (shape.withGroupByKey)
    results.push(
      pipeline.parDo("sum groups", pipeline.groupByKey("group", windowed), {
        function: "sum groups",
        output: texts,
        windowing: "global",
      }),
    );
  if (shape.withProcessingTimers)
    results.push(
      pipeline.parDo("put off", read, {
        function: "put off",
        output: texts,
        states: { waiting: { bag: "varint" } },
        timers: { flush: "processing" },
      }),
    );
  if (shape.withStableInput)
    results.push(
      pipeline.parDo("act", pipeline.parDo("version", read, { function: "version" }), {
        function: "act",
        output: texts,
        stableInput: true,
      }),
    );
  const all = results.length === 1 ? (results[0] as Collection) : pipeline.flatten("flatten", results);
  pipeline.parDo("collect", all, {
    function: "collect",
    output: texts,
    states: { all: { bag: "string" } },
    timers: { end: "event" },
  });
  if (shape.withOtherRegion) addOtherRegion(pipeline, shape);
  return pipeline;
}

function addOtherRegion(pipeline: TestPipeline, shape: CountingShape): void {
  const texts = { kv: ["string", "string"] } as const;
  const impulse = pipeline.impulse("impulse other");
  const partitions = pipeline.parDo("partitions other", impulse, { function: "partitions other", output: "varint" });
  const read = pipeline.splittable("read other", partitions, {
    function: "read",
    output: { kv: ["string", "varint"] },
    bounded: false,
    finalization: shape.finalization,
  });
  const windowed = pipeline.parDo("window other", read, { function: "window", windowing: { fixedMs: shape.windowMs } });
  const counted = pipeline.parDo("count other", windowed, {
    function: "count",
    output: texts,
    windowing: "global",
    states: { count: { combining: "sum", accumulator: "varint" }, all: { bag: "varint" } },
    timers: { end: "event" },
  });
  pipeline.parDo("collect other", counted, {
    function: "collect",
    output: texts,
    states: { all: { bag: "string" } },
    timers: { end: "event" },
  });
}

/**
 * @param random draws how sources cut their work, and which bundles fail
 * @param isKnown false on a worker that was given up: what it reads does not count
 * @param pause for so long, in simulated time
 */
export function countingFunctions(
  world: CountingWorld,
  random: SeededRandom,
  failureChance: () => number,
  isKnown: () => boolean,
  pause: (delayMs: number) => Promise<void>,
): FunctionRegistry {
  const { shape } = world;
  const fail = (where: string) => {
    if (random.chance(failureChance())) throw new Error(`chance failed ${where}`);
  };
  const window = (timestamp: number): IntervalWindow => {
    const start = Math.floor(timestamp / shape.windowMs) * shape.windowMs;
    return { start, end: start + shape.windowMs };
  };
  return new FunctionRegistry()
    .registerCombine<number, number, number>("sum", {
      create: () => 0,
      add: (sum, value) => sum + value,
      merge: (sums) => sums.reduce((left, right) => left + right, 0),
      extract: (sum) => sum,
    })
    .register("partitions", () => ({
      process: (_element, context) => {
        for (let partition = 0; partition < shape.partitions; partition++) context.output(partition);
      },
    }))
    .register("partitions other", () => ({
      process: (_element, context) => {
        for (let partition = 0; partition < shape.partitions; partition++) context.output(OTHER_PARTITIONS + partition);
      },
    }))
    .register("zero", () => ({ process: (_element, context) => context.output(0) }))
    .register("read", () => ({
      initialRestriction: () => ({ start: 0, stop: shape.elementsPerPartition }),
      processRestriction: async (element, context) => {
        const partition = element as number;
        const { start } = context.tracker.range;
        const stop = start + random.integer(1, 20);
        let offset = start;
        for (; offset < stop && context.tracker.tryClaim(offset); offset++) {
          if (isKnown()) world.reads(partition, offset);
          const number = partition * OFFSETS + offset;
          context.output([keyOf(partition, offset, shape.keys), number], { timestamp: offset * STEP_MS });
          context.setWatermark((offset + 1) * STEP_MS);
          if (random.chance(0.3)) await context.turn();
          fail("read");
        }
        if (shape.finalization) {
          const end = offset;
          context.onFinalized(() => world.commits(partition, start, end));
        }
        return { resumeAfterMs: random.chance(0.5) ? 0 : random.integer(1, 200) };
      },
    }))
    .register("window", () => ({
      process: (element, context) => context.output(element, { windows: [window(context.timestamp)] }),
    }))
    .register("window with side input", () => ({
      process: async (element, context) => {
        const [key, value] = element as [string, number];
        const [zero, ...more] = await context.sideInput<number>("zero");
        if (zero !== 0 || more.length > 0) world.complaints.push(`side input ${String(zero)} and ${more.length} more`);
        context.output([key, value + (zero ?? 0)], { windows: [window(context.timestamp)] });
      },
    }))
    .register("version", () => ({
      process: (element, context) => {
        const [key, value] = element as [string, number];
        context.output([key, value * VERSIONS + random.integer(0, VERSIONS - 1)]);
      },
    }))
    .register("act", () => ({
      process: (element, context) => {
        const [key, value] = element as [string, number];
        const number = Math.floor(value / VERSIONS);
        world.sees(number, value % VERSIONS);
        context.output([key, `s${number}`]);
        fail("act");
      },
    }))
    .register("count", () => ({
      process: async (element, context) => {
        if (shape.slowMs > 0) await pause(random.next() * shape.slowMs);
        const [, value] = element as [string, number];
        context.combining<number, number>("count").add(1);
        context.bag<number>("all").add(value);
        context.timer("end").set((context.window as IntervalWindow).end - 1);
        fail("count");
      },
      onTimer: async (_timer, context) => {
        const count = await context.combining<number, number>("count").read();
        const all = await context.bag<number>("all").read();
        const sum = all.reduce((left, right) => left + right, 0);
        if (all.length !== count) world.complaints.push(`bag of ${all.length}, count of ${count}`);
        context.combining("count").clear();
        context.bag("all").clear();
        const { start } = context.window as IntervalWindow;
        context.output([context.key, `w${start}:${count}:${sum}`], { windows: ["global"] });
        fail("count's timer");
      },
    }))
    .register("sum groups", () => ({
      process: (element, context) => {
        const [key, values] = element as [string, number[]];
        const sum = values.reduce((left, right) => left + right, 0);
        const { start } = context.window as IntervalWindow;
        context.output([key, `g${start}:${values.length}:${sum}`], { windows: ["global"] });
      },
    }))
    .register("put off", () => ({
      process: async (element, context) => {
        const [, value] = element as [string, number];
        const waiting = context.bag<number>("waiting");
        if ((await waiting.read()).length === 0)
          context.timer("flush").set(context.processingTimeMs + random.integer(1, 100), { hold: context.timestamp });
        waiting.add(value);
      },
      onTimer: async (_timer, context) => {
        const waiting = context.bag<number>("waiting");
        for (const value of await waiting.read()) context.output([context.key, `p${value}`]);
        waiting.clear();
        fail("put off's timer");
      },
    }))
    .register("collect", () => ({
      process: (element, context) => {
        const [, text] = element as [string, string];
        context.bag<string>("all").add(text);
        context.timer("end").set(END_OF_GLOBAL_WINDOW);
        fail("collect");
      },
      onTimer: async (_timer, context) => {
        const all = await context.bag<string>("all").read();
        world.tell(context.key as string, all.sort().join(" "));
        fail("collect's timer");
      },
    }));
}
