import test from "ava";
import { MemoryRows } from "../../state/state-rows.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import { type NewResidual, Residuals } from "./residuals.ts";

const residual = (byte: number, hold = 10): NewResidual => ({
  element: Uint8Array.of(byte),
  dueMs: 0,
  hold: hold as Timestamp,
  truncated: false,
});

/** What a task that is restored from the rows would run. */
function stored(rows: MemoryRows): number[] {
  const elements = new Residuals(rows.table("residuals"), "restored").takeDue(1, 100)?.elements ?? [];
  return elements.map((element) => element[0] ?? -1).sort((left, right) => left - right);
}

test("a residual that is run is stored until the bundle has committed", (t) => {
  const rows = new MemoryRows();
  const residuals = new Residuals(rows.table("residuals"), "0.1");
  residuals.add(residual(1));
  residuals.add(residual(2));
  const taken = residuals.takeDue(0, 1);
  t.deepEqual(stored(rows), [1, 2]);
  t.is(residuals.count, 2);
  taken?.commit();
  t.deepEqual(stored(rows), [2]);
  t.is(residuals.takeDue(0, 1)?.elements[0]?.[0], 2);
});

test("what a bundle keeps after a split takes the place of what it had taken, so that nothing is stored twice", (t) => {
  const rows = new MemoryRows();
  const residuals = new Residuals(rows.table("residuals"), "0.1");
  residuals.add(residual(1, 5));
  const taken = residuals.takeDue(0, 1);
  residuals.add(residual(12));
  const kept = residuals.keep(taken, [residual(11, 7), residual(3, 9)]);
  t.deepEqual(stored(rows), [3, 11, 12]);
  t.is(residuals.hold, 7 as Timestamp);
  // It is not run a second time meanwhile.
  t.deepEqual(residuals.takeDue(0, 10)?.elements.length, 1);
  const less = residuals.keep(kept, [residual(11, 8)]);
  t.deepEqual(stored(rows), [11, 12]);
  less.commit();
  t.deepEqual(stored(rows), [12]);
});

test("after ten thousand rounds a source is one row, as small as after the first", (t) => {
  const rows = new MemoryRows();
  const table = rows.table("residuals");
  const residuals = new Residuals(table, "0.1");
  residuals.add(residual(1));
  const bytes = () => [...table.entries()].reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  const first = bytes();
  for (let round = 0; round < 10_000; round++) {
    const taken = residuals.takeDue(round, 16);
    residuals.add({ ...residual(round % 250), dueMs: round + 1, hold: round as Timestamp });
    taken?.commit();
  }
  t.is([...table.entries()].length, 1);
  // The row's number has more digits.
  t.true(bytes() - first < 8);
  t.is(residuals.hold, 9_999 as Timestamp);
  t.is(residuals.nextDueMs, 10_000);
});

test("of many those that are due run first, and the least hold of all holds", (t) => {
  const residuals = new Residuals(new MemoryRows().table("residuals"), "0.1");
  for (let index = 0; index < 100; index++)
    residuals.add({ ...residual(index, 500 - index), dueMs: (index * 37) % 100 });
  t.is(residuals.nextDueMs, 0);
  t.is(residuals.hold, 401 as Timestamp);
  const taken = residuals.takeDue(49, 10);
  t.deepEqual(
    taken?.elements.map((element) => ((element[0] ?? 0) * 37) % 100),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  t.is(residuals.nextDueMs, 10);
  t.is(residuals.count, 100);
  taken?.release();
  t.is(residuals.nextDueMs, 0);
  const untruncated = residuals.takeUntruncated(100);
  // Truncated ones run in the order in which they are taken here.
  t.deepEqual(
    untruncated?.elements.map((element) => ((element[0] ?? 0) * 37) % 100),
    Array.from({ length: 100 }, (_, index) => index),
  );
  untruncated?.commit();
  t.is(residuals.count, 0);
  t.is(residuals.nextDueMs, undefined);
});
