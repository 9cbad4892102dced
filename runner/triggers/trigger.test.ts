import test from "ava";
import fc from "fast-check";
import { type TimestampTransform, Trigger as TriggerProto } from "../../proto/gen/beam_runner_api.ts";
import { WeirError } from "../base/errors.ts";
import type { Timestamp } from "../time/timestamp.ts";
import { targetTime } from "./after-processing-time.ts";
import { Trigger, type TriggerContext, type TriggerState } from "./trigger.ts";

type Spec = NonNullable<TriggerProto["trigger"]>;

const never: Spec = { $case: "never", value: {} };
const always: Spec = { $case: "always", value: {} };
const byDefault: Spec = { $case: "default", value: {} };
const count = (elementCount: number): Spec => ({ $case: "elementCount", value: { elementCount } });
const several = (triggers: readonly Spec[]) => ({ subtriggers: triggers.map((trigger) => ({ trigger })) });
const all = (...triggers: Spec[]): Spec => ({ $case: "afterAll", value: several(triggers) });
const any = (...triggers: Spec[]): Spec => ({ $case: "afterAny", value: several(triggers) });
const each = (...triggers: Spec[]): Spec => ({ $case: "afterEach", value: several(triggers) });
const repeat = (trigger: Spec): Spec => ({ $case: "repeat", value: { subtrigger: { trigger } } });
const orFinally = (main: Spec, last: Spec): Spec => ({
  $case: "orFinally",
  value: { main: { trigger: main }, finally: { trigger: last } },
});
const endOfWindow = (early?: Spec, late?: Spec): Spec => ({
  $case: "afterEndOfWindow",
  value: { earlyFirings: early && { trigger: early }, lateFirings: late && { trigger: late } },
});
const delay = (delayMs: number): TimestampTransform => ({
  timestampTransform: { $case: "delay", value: { delayMillis: BigInt(delayMs) } },
});
const processingTime = (...timestampTransforms: TimestampTransform[]): Spec => ({
  $case: "afterProcessingTime",
  value: { timestampTransforms },
});
const synchronizedProcessingTime: Spec = { $case: "afterSynchronizedProcessingTime", value: {} };

const MAX_OF_WINDOW = 9 as Timestamp;

/** One window [0, 10): "e" an element, "w" the watermark passes its end, a number the processing time. */
class Window {
  readonly trigger: Trigger;
  state: TriggerState;
  #inputWatermark = 0;
  #processingTimeMs = 0;

  constructor(spec: Spec, isMerging = false) {
    this.trigger = new Trigger(TriggerProto.encode({ trigger: spec }).finish(), isMerging);
    this.state = this.trigger.newState();
  }

  get context(): TriggerContext {
    return {
      state: this.state,
      windowMaxTimestamp: MAX_OF_WINDOW,
      inputWatermark: this.#inputWatermark as Timestamp,
      processingTimeMs: this.#processingTimeMs,
    };
  }

  get closed(): boolean {
    return this.trigger.isClosed(this.state);
  }

  /** @returns for each event whether a pane fires after it: "F", "L" where it was the last, "." */
  run(...events: readonly ("e" | "w" | number)[]): string {
    return events.map((event) => this.#run(event)).join("");
  }

  merged(...others: readonly Window[]): Window {
    const target = new Window(byDefault);
    Object.assign(target, { trigger: this.trigger, state: this.trigger.newState() });
    target.#inputWatermark = this.#inputWatermark;
    target.#processingTimeMs = this.#processingTimeMs;
    const sources = [this, ...others].map(({ state }) => state);
    target.state = this.trigger.onMerge({ ...target.context, sources });
    return target;
  }

  #run(event: "e" | "w" | number): string {
    if (event === "w") this.#inputWatermark = 10;
    else if (event !== "e") this.#processingTimeMs = event;
    if (this.closed) return "-";
    if (event === "e") this.trigger.onElement(this.context);
    if (!this.trigger.shouldFire(this.context)) return ".";
    this.trigger.onFire(this.context);
    return this.closed ? "L" : "F";
  }
}

const run = (spec: Spec, ...events: readonly ("e" | "w" | number)[]): string => new Window(spec).run(...events);

test("default fires at the end of the window and for late data; always for anything; never for nothing", (t) => {
  t.is(run(byDefault, "e", "e", "w", "e"), "..FF");
  t.is(run(always, "e", "w", "e"), "FFF");
  t.is(run(never, "e", "w", "e"), "...");
});

test("element count fires once; repeated it counts anew", (t) => {
  t.is(run(count(2), "e", "e", "e"), ".L-");
  t.is(run(repeat(count(2)), "e", "e", "e", "w", "e", "e"), ".F..F.");
});

test("after the end of the window: early firings before, one at the end, late ones after", (t) => {
  t.is(run(endOfWindow(), "e", "w", "e"), ".L-");
  t.is(run(endOfWindow(count(2)), "e", "e", "e", "w", "e"), ".F.L-");
  t.is(run(endOfWindow(undefined, count(2)), "e", "e", "w", "e", "e", "e"), "..F.F.");
  t.is(run(endOfWindow(count(1), count(2)), "e", "e", "w", "e", "e"), "FFF.F");
});

test("processing time counts from a pane's first element, through its transforms", (t) => {
  t.is(run(processingTime(delay(5)), 1, "e", 4, "e", 5, 6, 7), ".....L-");
  t.is(run(repeat(processingTime(delay(5))), "e", 3, "e", 5, 6, "e", 10, 11), "...F...F");
  t.is(run(synchronizedProcessingTime, 7, "e"), ".L");
  const window = new Window(processingTime(delay(5)));
  t.is(window.trigger.nextProcessingTimeMs(window.state, 0), undefined);
  window.run(100, "e");
  t.is(window.trigger.nextProcessingTimeMs(window.state, 100), 105);
});

test("aligning goes up to the next multiple of the period from the offset", (t) => {
  const align = { kind: "align-to", periodMs: 10, offsetMs: 3 } as const;
  t.deepEqual(
    [-7, -6, 3, 4, 12, 13, 14].map((time) => targetTime(time, [align])),
    [-7, 3, 3, 13, 13, 13, 23],
  );
  t.is(targetTime(4, [{ kind: "delay", delayMs: 10 }, align]), 23);
});

test("after all waits for all, after any for one, each once", (t) => {
  t.is(run(all(count(1), count(3)), "e", "e", "e", "e"), "..L-");
  t.is(run(all(count(2), endOfWindow()), "e", "w", "e"), "..L");
  t.is(run(any(count(3), endOfWindow()), "e", "w", "e"), ".L-");
  t.is(run(repeat(any(count(3), processingTime(delay(5)))), "e", 4, "e", 5, "e", "e", "e", "e"), "...F..F.");
});

test("after each goes from one to the next, and is finished after the last", (t) => {
  t.is(run(each(count(2), count(3)), "e", "e", "e", "e", "e", "e"), ".F..L-");
  t.is(run(each(repeat(count(1)), count(2)), "e", "e", "e"), "FFF");
  t.is(run(repeat(each(count(2), count(1))), "e", "e", "e", "e", "e", "e"), ".FF.FF");
});

test("or finally ends with the firing of its last trigger", (t) => {
  t.is(run(orFinally(repeat(count(2)), count(3)), "e", "e", "e", "e"), ".FL-");
  t.is(run(orFinally(repeat(count(1)), endOfWindow()), "e", "e", "w", "e"), "FFL-");
  t.is(run(orFinally(count(1), count(5)), "e", "e"), "L-");
});

test("merged windows add up counts and take the earliest time; a finished end of window comes back", (t) => {
  const window = (spec: Spec, ...events: readonly ("e" | "w" | number)[]): Window => {
    const made = new Window(spec, true);
    made.run(...events);
    return made;
  };
  t.is(
    window(count(4), "e")
      .merged(window(count(4), "e", "e"))
      .run("e"),
    "L",
  );
  const delayed = window(processingTime(delay(5)), 3, "e").merged(window(processingTime(delay(5)), "e"));
  t.is(delayed.run(4, 5), ".L");
  const early = endOfWindow(count(2), count(1));
  t.is(window(early, "e").merged(window(early, "e")).run(0), "F");
  const ended = window(early, "e", "w");
  t.is(ended.merged(window(early, "e", "w")).run("e"), "F");
  t.is(
    window(each(count(1), count(2)), "e", "e")
      .merged(window(each(count(1), count(2)), "e"))
      .run("e"),
    "L",
  );
});

test("state encodes to bytes and back, whatever has happened", (t) => {
  const leaf = fc.oneof(
    fc.integer({ min: 1, max: 4 }).map(count),
    fc.integer({ min: 0, max: 9 }).map((ms) => processingTime(delay(ms))),
    fc.constantFrom(byDefault, always, never, endOfWindow()),
  );
  const { spec } = fc.letrec<{ spec: Spec }>((tie) => ({
    spec: fc.oneof(
      { maxDepth: 3, withCrossShrink: true },
      leaf,
      fc
        .array(tie("spec"), { minLength: 1, maxLength: 4 })
        .chain((parts) => fc.constantFrom(all(...parts), any(...parts), each(...parts), repeat(parts[0] as Spec))),
      fc.tuple(tie("spec"), tie("spec")).chain(([a, b]) => fc.constantFrom(endOfWindow(a, b), orFinally(a, b))),
    ),
  }));
  const events = fc.array(fc.oneof(fc.constantFrom("e" as const, "w" as const), fc.nat(20)), { maxLength: 20 });
  fc.assert(
    fc.property(spec, events, events, fc.boolean(), (trigger, before, after, isMerging) => {
      const window = new Window(trigger, isMerging);
      window.run(...before);
      const bytes = window.trigger.encodeState(window.state);
      const again = window.trigger.decodeState(Buffer.concat([Buffer.from([1, 2]), bytes]), 2);
      t.deepEqual(again, window.state);
      // A pane that has fired for good never fires again.
      if (window.closed) t.regex(window.run(...after), /^-*$/);
    }),
    { numRuns: 300 },
  );
});

test("a trigger without its parts is refused by name", (t) => {
  const error = t.throws(() => new Window({ $case: "repeat", value: { subtrigger: undefined } }), {
    instanceOf: WeirError,
  });
  t.regex(error.message, /Repeat/);
  t.throws(() => new Window(all()), { message: /AfterAll/ });
});
