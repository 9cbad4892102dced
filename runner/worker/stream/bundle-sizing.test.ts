import test from "ava";
import { BundleSizing } from "./bundle-sizing.ts";

test("bundles grow from small ones as far as what they write fits, and shrink when it no longer does", (t) => {
  const sizing = new BundleSizing(1_000_000);
  const sizes: number[] = [];
  const run = (bytesPerElement: number, wanted = 1_000_000) => {
    const count = sizing.limit(wanted);
    sizes.push(count);
    sizing.committed(count, count * bytesPerElement);
  };
  for (let bundle = 0; bundle < 4; bundle++) run(100);
  t.deepEqual(sizes.splice(0), [100, 800, 6_400, 10_000]);
  run(100_000);
  run(100_000);
  run(2_000_000);
  run(0);
  run(0);
  t.deepEqual(sizes.splice(0), [10_000, 10, 10, 1, 8]);
});

test("a small bundle neither grows the next one nor shrinks it, unless it has written much", (t) => {
  const sizing = new BundleSizing(1_000_000);
  sizing.committed(1, 10);
  t.is(sizing.limit(1_000), 100);
  sizing.committed(1, 50_000);
  t.is(sizing.limit(1_000), 20);
});

test("where input is gathered, the second bundle is as large as the first one's writes let hope, the others as they allow", (t) => {
  const sizing = new BundleSizing(1_000_000, true);
  t.is(sizing.limit(1_000_000), 100);
  sizing.committed(100, 100 * 200);
  t.is(sizing.limit(1_000_000), 80_000);
  // Its keys came again.
  sizing.committed(80_000, 80_000 * 10);
  t.is(sizing.limit(1_000_000), 100_000);
  sizing.committed(100_000, 100_000 * 1_000);
  t.is(sizing.limit(1_000_000), 1_000);
});
