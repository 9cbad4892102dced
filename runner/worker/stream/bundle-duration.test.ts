import test from "ava";
import { BundleDuration } from "./bundle-duration.ts";

/** Sizes of bundles that cost so much, until they stay what they are. */
function settled(duration: BundleDuration, bundleMs: number, elementMs: number): number {
  for (let bundle = 0; bundle < 200; bundle++) {
    const count = duration.limit(Infinity);
    duration.committed(count, bundleMs + count * elementMs);
  }
  return duration.limit(Infinity);
}

test("bundles of slow elements get shorter than a tenth of a second, those of fast ones stay", (t) => {
  t.is(settled(new BundleDuration(1000), 1, 0.02), 1000);
  t.is(settled(new BundleDuration(1000), 1, 0.7), 125);
  t.is(settled(new BundleDuration(1000), 1, 30), 3);
  t.is(settled(new BundleDuration(1000), 1, 30_000), 1);
});

test("what a bundle costs as a whole keeps bundles large", (t) => {
  t.true(settled(new BundleDuration(1000), 250, 0.1) >= 500);
  t.true(settled(new BundleDuration(1000), 5_000, 0) >= 500);
});

test("bundles get larger again when elements cost less", (t) => {
  const duration = new BundleDuration(1000);
  t.is(settled(duration, 1, 30), 3);
  t.true(settled(duration, 1, 0.02) >= 500);
});

test("a bundle that was not full says nothing", (t) => {
  const duration = new BundleDuration(1000);
  for (let bundle = 0; bundle < 20; bundle++) duration.committed(999, 10_000);
  t.is(duration.limit(5_000), 1000);
});
