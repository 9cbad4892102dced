import test from "ava";
import type { WorkerId } from "../base/ids.ts";
import { successivePlacement } from "./successive-placement.ts";

function order(workers: readonly string[], former: readonly string[]): string[] {
  const all = workers.map((workerId) => ({ workerId: workerId as WorkerId }));
  return successivePlacement(all, former as WorkerId[]).map(({ workerId }) => workerId);
}

test("workers keep their places; new ones take those of workers that are gone, then further ones", (t) => {
  t.deepEqual(order(["a", "b", "c"], []), ["a", "b", "c"]);
  t.deepEqual(order(["c", "a", "d"], ["a", "b", "c"]), ["a", "d", "c"]);
  t.deepEqual(order(["c", "d", "e"], ["a", "c"]), ["d", "c", "e"]);
});

test("with fewer workers than before those that are left move up", (t) => {
  t.deepEqual(order(["c", "b"], ["a", "b", "c"]), ["b", "c"]);
});
