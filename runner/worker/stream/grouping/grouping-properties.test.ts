// Properties of the grouping against naive models, for arbitrary strategies and orders of events.
import test from "ava";
import fc from "fast-check";
import type { Trigger as TriggerProto } from "../../../../proto/gen/beam_runner_api.ts";
import type { WindowingSpec } from "../../../graph/execution-graph.ts";
import { type Element, interval, SESSIONS } from "../../../state/grouping/grouping-fixture.ts";
import { MAX_TIMESTAMP } from "../../../time/timestamp.ts";
import { GroupingUnderTest, type Pane, type Step, triggerBytes } from "./grouping-fixture.ts";

type Spec = NonNullable<TriggerProto["trigger"]>;

const several = (triggers: readonly Spec[]) => ({ subtriggers: triggers.map((trigger) => ({ trigger })) });
const leaf: fc.Arbitrary<Spec> = fc.oneof(
  fc.integer({ min: 1, max: 4 }).map((elementCount): Spec => ({ $case: "elementCount", value: { elementCount } })),
  fc.nat(9).map((ms): Spec => ({
    $case: "afterProcessingTime",
    value: {
      timestampTransforms: [{ timestampTransform: { $case: "delay", value: { delayMillis: BigInt(ms) } } }],
    },
  })),
  fc.constantFrom<Spec>({ $case: "default", value: {} }, { $case: "always", value: {} }, { $case: "never", value: {} }),
  fc.constant<Spec>({ $case: "afterEndOfWindow", value: { earlyFirings: undefined, lateFirings: undefined } }),
);
const { trigger: triggers } = fc.letrec<{ trigger: Spec }>((tie) => ({
  trigger: fc.oneof(
    { maxDepth: 2 },
    leaf,
    fc
      .array(tie("trigger"), { minLength: 1, maxLength: 3 })
      .chain((parts) =>
        fc.constantFrom<Spec>(
          { $case: "afterAll", value: several(parts) },
          { $case: "afterAny", value: several(parts) },
          { $case: "afterEach", value: several(parts) },
          { $case: "repeat", value: { subtrigger: { trigger: parts[0] as Spec } } },
        ),
      ),
    fc.tuple(tie("trigger"), tie("trigger")).chain(([first, second]) =>
      fc.constantFrom<Spec>(
        {
          $case: "afterEndOfWindow",
          value: { earlyFirings: { trigger: first }, lateFirings: { trigger: second } },
        },
        { $case: "orFinally", value: { main: { trigger: first }, finally: { trigger: second } } },
      ),
    ),
  ),
}));

const strategies: fc.Arbitrary<Partial<WindowingSpec>> = fc.record({
  trigger: triggers.map(triggerBytes),
  accumulationMode: fc.constantFrom("DISCARDING" as const, "ACCUMULATING" as const),
  timestampCombiner: fc.constantFrom("END_OF_WINDOW" as const, "LATEST_IN_PANE" as const, "EARLIEST_IN_PANE" as const),
  allowedLatenessMs: fc.constantFrom(0, 5, 30),
  closingBehavior: fc.constantFrom("EMIT_ALWAYS" as const, "EMIT_IF_NONEMPTY" as const),
  onTimeBehavior: fc.constantFrom("FIRE_ALWAYS" as const, "FIRE_IF_NONEMPTY" as const),
  asksTriggerFor: fc.constantFrom("EACH_ELEMENT" as const, "ELEMENTS_TOGETHER" as const),
});

type Event =
  | { readonly elements: readonly { readonly timestamp: number; readonly key: string }[] }
  | { readonly watermarkBy: number }
  | { readonly processingBy: number };

const events: fc.Arbitrary<Event[]> = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        elements: fc.array(fc.record({ timestamp: fc.nat(60), key: fc.constantFrom("a", "b") }), { maxLength: 5 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ watermarkBy: fc.integer({ min: 1, max: 20 }) }) },
    { weight: 1, arbitrary: fc.record({ processingBy: fc.integer({ min: 1, max: 8 }) }) },
  ),
  { maxLength: 14 },
);

/** Events as steps: values are numbered, time only grows, at last everything expires. */
function stepsOf(made: readonly Event[], sessions: boolean): Step[] {
  let watermark = 0;
  let processingTimeMs = 0;
  let number = 0;
  const steps = made.map((event): Step => {
    if ("watermarkBy" in event) return { watermark: (watermark += event.watermarkBy) };
    if ("processingBy" in event) return { processingTimeMs: (processingTimeMs += event.processingBy) };
    return {
      elements: event.elements.map(({ timestamp, key }): Element => {
        const start = sessions ? timestamp : timestamp - (timestamp % 10);
        return { timestamp, key, value: String(number++), windows: [interval(start, start + (sessions ? 6 : 10))] };
      }),
    };
  });
  return [{ watermark: 0 }, ...steps, { watermark: MAX_TIMESTAMP }];
}

const nameOf = ({ window, key }: Pane): string => `${window} ${key}`;

function byWindow(panes: readonly Pane[]): Map<string, Pane[]> {
  const named = new Map<string, Pane[]>();
  for (const pane of panes) named.set(nameOf(pane), [...(named.get(nameOf(pane)) ?? []), pane]);
  return named;
}

test("panes of a window are numbered, go from early over on time to late, and none follows the last", async (t) => {
  await fc.assert(
    fc.asyncProperty(strategies, events, async (strategy, made) => {
      const tested = new GroupingUnderTest({ kind: "interval", windowing: strategy });
      const panes = await tested.steps(stepsOf(made, false));
      for (const ofWindow of byWindow(panes).values()) {
        let nonSpeculative = 0;
        ofWindow.forEach((pane, index) => {
          t.is(pane.index, index);
          t.is(pane.isFirst, index === 0);
          if (index < ofWindow.length - 1) t.false(pane.isLast);
          t.is(pane.nonSpeculativeIndex, pane.timing === "EARLY" ? -1 : nonSpeculative++);
          const rank = ["EARLY", "ON_TIME", "LATE"].indexOf(pane.timing);
          const before = index === 0 ? 0 : ["EARLY", "ON_TIME", "LATE"].indexOf((ofWindow[index - 1] as Pane).timing);
          t.true(rank >= before && !(rank === 1 && before === 1 && index > 0));
        });
      }
      t.is(tested.grouping.size, 0);
      t.is(tested.grouping.hold, MAX_TIMESTAMP);
      t.is(tested.grouping.nextProcessingTimeMs, undefined);
    }),
    { numRuns: 300 },
  );
});

test("every value is in one pane when discarding, and stays in all later ones when accumulating", async (t) => {
  await fc.assert(
    fc.asyncProperty(strategies, events, fc.boolean(), async (strategy, made, sessions) => {
      const steps = stepsOf(made, sessions);
      const windowing = sessions ? { ...strategy, ...SESSIONS } : strategy;
      const tested = new GroupingUnderTest({ kind: "interval", windowing });
      const panes = await tested.steps(steps);
      const added = steps.reduce((sum, step) => sum + ("elements" in step ? step.elements.length : 0), 0);
      const dropped = tested.grouping.droppedLateCount + tested.grouping.droppedClosedCount;
      const emitted = panes.flatMap(({ values }) => values);
      t.is(new Set(emitted).size, added - dropped);
      if (strategy.accumulationMode === "DISCARDING") t.is(emitted.length, added - dropped);
      else if (!sessions)
        for (const ofWindow of byWindow(panes).values())
          ofWindow.forEach(({ values }, index) =>
            t.deepEqual(ofWindow[index - 1]?.values ?? [], values.slice(0, ofWindow[index - 1]?.values.length ?? 0)),
          );
    }),
    { numRuns: 300 },
  );
});

test("a pane is never behind the output watermark, unless all that is in it came late", async (t) => {
  await fc.assert(
    fc.asyncProperty(strategies, events, fc.boolean(), async (strategy, made, sessions) => {
      const windowing = sessions ? { ...strategy, ...SESSIONS } : strategy;
      const tested = new GroupingUnderTest({ kind: "interval", windowing });
      let output = Number.NEGATIVE_INFINITY;
      for (const step of stepsOf(made, sessions)) {
        for (const pane of await tested.step(step)) t.true(pane.timing === "LATE" || pane.timestamp >= output);
        const next = Math.min(tested.time.inputWatermark, tested.grouping.hold);
        t.true(next >= output);
        output = next;
      }
    }),
    { numRuns: 300 },
  );
});

test("restored at any point it gives the same panes as if nothing had happened", async (t) => {
  const normal = (panes: readonly Pane[]): string[] =>
    panes.map((pane) => JSON.stringify({ ...pane, values: pane.values.toSorted() })).toSorted();
  await fc.assert(
    fc.asyncProperty(
      strategies,
      events,
      fc.boolean(),
      fc.func(fc.boolean()),
      async (strategy, made, sessions, isCrash) => {
        const windowing = sessions ? { ...strategy, ...SESSIONS } : strategy;
        const straight = new GroupingUnderTest({ kind: "interval", windowing });
        const restored = new GroupingUnderTest({ kind: "interval", windowing });
        for (const [index, step] of stepsOf(made, sessions).entries()) {
          if (isCrash(index)) restored.restore();
          t.deepEqual(normal(await restored.step(step)), normal(await straight.step(step)));
          t.is(restored.grouping.hold, straight.grouping.hold);
          t.is(restored.grouping.size, straight.grouping.size);
        }
        restored.grouping.flush();
        t.true(restored.rowCount <= 1);
      },
    ),
    { numRuns: 300 },
  );
});
