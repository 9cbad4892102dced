/**
 * Timers against a naive model: a list that is sorted and filtered each time.
 */
import test from "ava";
import fc from "fast-check";
import { MAX_TIMESTAMP, type Timestamp } from "../../../time/timestamp.ts";
import { clear, decoded, newTable, open, set, take, type TestTimer, timer } from "./timers-fixture.ts";

interface Change {
  readonly timer: TestTimer;
  readonly clear: boolean;
}

/** One bundle: what it fires, then what it sets and clears. */
interface Step {
  readonly inputWatermark: number;
  readonly processingTimeMs: number;
  readonly maxCount: number;
  readonly changes: readonly Change[];
  readonly outcome: "commit" | "abort" | "restore";
}

const anyTimer = fc.record({
  family: fc.constantFrom("a", "b", "processing"),
  key: fc.constantFrom("", "k", "key"),
  tag: fc.constantFrom("", "t"),
  window: fc.constantFrom(10, 20),
  fire: fc.integer({ min: -5, max: 30 }),
  hold: fc.integer({ min: -5, max: 30 }),
});

const anyStep: fc.Arbitrary<Step> = fc.record({
  inputWatermark: fc.integer({ min: -10, max: 40 }),
  processingTimeMs: fc.integer({ min: -10, max: 40 }),
  maxCount: fc.integer({ min: 1, max: 6 }),
  changes: fc.array(fc.record({ timer: anyTimer, clear: fc.boolean() }), { maxLength: 8 }),
  outcome: fc.constantFrom("commit", "commit", "abort", "restore"),
});

const identityOf = (each: TestTimer) => JSON.stringify([each.family, each.key, each.tag, each.window]);
const cellOf = (each: TestTimer) => JSON.stringify([each.key, each.window]);

/** As encoded: a length and the key, then the end of the window. */
const byCell = (a: TestTimer, b: TestTimer) => a.key.length - b.key.length || a.window - b.window;

function inOrder(timers: readonly TestTimer[]): TestTimer[] {
  const byTag = (a: TestTimer, b: TestTimer) => a.tag.length - b.tag.length;
  const byFamily = (a: TestTimer, b: TestTimer) =>
    a.family.length - b.family.length || (a.family < b.family ? -1 : +(a.family > b.family));
  return timers.toSorted((a, b) => a.fire - b.fire || byCell(a, b) || byFamily(a, b) || byTag(a, b));
}

function eligible(timers: readonly TestTimer[], { inputWatermark, processingTimeMs, maxCount }: Step): TestTimer[] {
  const taken: TestTimer[] = [];
  const busy = new Set<string>();
  for (const [isProcessing, now] of [[false, inputWatermark] as const, [true, processingTimeMs] as const]) {
    const due = inOrder(timers.filter((each) => (each.family === "processing") === isProcessing && each.fire <= now));
    const cells = new Set<string>();
    for (const each of due) {
      const first = due.find((other) => cellOf(other) === cellOf(each));
      if (busy.has(cellOf(each)) || first?.fire !== each.fire) continue;
      cells.add(cellOf(each));
      taken.push(each);
    }
    for (const cell of cells) busy.add(cell);
  }
  return taken.slice(0, maxCount);
}

test("whatever is set, cleared, fired, dropped and restored, it is as in the model", (t) => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 25 }), (steps) => {
      const table = newTable();
      let timers = open(undefined, table);
      const model = new Map<string, TestTimer>();
      for (const step of steps) {
        const firing = take(timers, step.inputWatermark, step.processingTimeMs, step.maxCount);
        const expected = eligible([...model.values()], step);
        t.deepEqual(decoded(firing), expected);
        const bundle = timers.beginBundle();
        for (const each of step.changes) (each.clear ? clear : set)(bundle, each.timer);
        switch (step.outcome) {
          case "commit":
            for (const each of expected) model.delete(identityOf(each));
            for (const each of step.changes)
              if (each.clear) model.delete(identityOf(each.timer));
              else model.set(identityOf(each.timer), each.timer);
            firing?.commit();
            bundle.commit();
            break;
          case "abort":
            firing?.release();
            bundle.abort();
            break;
          case "restore":
            timers = open(undefined, table);
            break;
        }
        const all = [...model.values()];
        const processing = all.filter((each) => each.family === "processing").map((each) => each.fire);
        t.is(timers.count, all.length);
        t.is(timers.hold, Math.min(MAX_TIMESTAMP, ...all.map((each) => each.hold)) as Timestamp);
        t.is(timers.nextProcessingTimeMs, processing.length === 0 ? undefined : Math.min(...processing));
        t.is([...table.entries()].length, all.length);
      }
    }),
    { numRuns: 300 },
  );
});

test("100 k timers of as many keys, and of one key, are set, set again and fired", (t) => {
  const count = 100_000;
  const timers = open();
  const bundle = timers.beginBundle();
  for (let index = 0; index < count / 2; index++) set(bundle, timer("a", index, { key: `k${index}` }));
  for (let index = 0; index < count / 2; index++) set(bundle, timer("b", count - index, { tag: `${index}` }));
  bundle.commit();
  const again = timers.beginBundle();
  for (let index = 0; index < count / 2; index++) set(again, timer("b", index, { tag: `${index}` }));
  again.commit();
  t.is(timers.count, count);
  let fired = 0;
  let last = -1;
  for (let firing = take(timers, count / 2, 0, 100); firing !== undefined; firing = take(timers, count / 2, 0, 100)) {
    for (const { timers: batch } of firing.batches) t.true(batch.length > 0);
    const [first] = decoded(firing).filter(({ key }) => key === "k");
    // Of the one key: one in each round, in order.
    if (first !== undefined) {
      t.true(first.fire > last);
      last = first.fire;
    }
    fired += firing.count;
    firing.commit();
  }
  t.is(fired, count);
  t.is(timers.hold, MAX_TIMESTAMP);
});
