import test from "ava";
import { BundlePace } from "./bundle-pace.ts";

test("bundles begin short, grow while there is room, and shrink at once when there is none", (t) => {
  const pace = new BundlePace(2, 1000);
  const next = (waits: boolean, ranMs?: number) => {
    if (waits) pace.waits();
    const ms = pace.next();
    pace.ended(ranMs ?? ms);
    return ms;
  };
  t.deepEqual(
    [false, false, false].map((waits) => next(waits)),
    [4, 8, 16],
  );
  for (let bundle = 0; bundle < 10; bundle++) next(false);
  t.is(next(false, 40), 1000, "the last one ended by itself");
  t.deepEqual(
    [true, true, true, true, true, true].map((waits) => next(waits)),
    [20, 10, 5, 2.5, 2, 2],
  );
  t.is(next(false), 4);
});

test("where bundles are as long as they may be from the first they stay so", (t) => {
  const pace = new BundlePace(1000, 1000);
  pace.waits();
  t.deepEqual([pace.next(), pace.next()], [1000, 1000]);
});
