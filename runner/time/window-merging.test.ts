import test from "ava";
import fc from "fast-check";
import { type Interval, mergeIntervals } from "./window-merging.ts";

function merge<Ms extends number | bigint>(windows: readonly Interval<Ms>[]): ReturnType<typeof mergeIntervals<Ms>> {
  return mergeIntervals(
    windows.map(({ start }) => start),
    windows.map(({ end }) => end),
  );
}

test("windows that overlap merge, those that only touch do not", (t) => {
  const { merged, targets } = merge([
    { start: 20, end: 30 },
    { start: 0, end: 10 },
    { start: 10, end: 15 },
    { start: 29, end: 40 },
    { start: 21, end: 22 },
  ]);
  t.deepEqual(merged, [
    { start: 0, end: 10 },
    { start: 10, end: 15 },
    { start: 20, end: 40 },
  ]);
  t.deepEqual([...targets], [2, 0, 1, 2, 2]);
});

test("bounds beyond 2^53 merge exactly", (t) => {
  const start = -9223372036854775n;
  const { merged } = merge([
    { start, end: start + 1n },
    { start: start + 1n, end: start + 2n },
  ]);
  t.is(merged.length, 2);
});

test("merged windows are the connected components of overlap", (t) => {
  const interval = fc
    .tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 1, max: 8 }))
    .map(([start, span]) => ({ start, end: start + span }));
  fc.assert(
    fc.property(fc.array(interval, { maxLength: 20 }), (windows) => {
      const { merged, targets } = merge(windows);
      // A naive fixpoint: each window is its own set until two that overlap are joined.
      const component = windows.map((_, index) => index);
      for (let changed = true; changed;) {
        changed = false;
        windows.forEach((left, i) =>
          windows.forEach((right, j) => {
            const [a, b] = [component[i] as number, component[j] as number];
            if (a !== b && left.start < right.end && right.start < left.end) {
              component.forEach(
                (value, index) => (component[index] = value === Math.max(a, b) ? Math.min(a, b) : value),
              );
              changed = true;
            }
          }),
        );
      }
      windows.forEach((window, i) => {
        const target = merged[targets[i] as number];
        t.true(target !== undefined && target.start <= window.start && target.end >= window.end);
        windows.forEach((_, j) => t.is(targets[i] === targets[j], component[i] === component[j]));
      });
      t.is(merged.length, new Set(component).size);
    }),
  );
});
