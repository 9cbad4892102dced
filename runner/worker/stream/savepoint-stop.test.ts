import test from "ava";
import { SavepointStop } from "./savepoint-stop.ts";

const savepoint = { path: "/savepoint", stops: true };

test("a task stands still behind a savepoint's barrier until the savepoint is given up", (t) => {
  const stop = new SavepointStop();
  stop.passed({ checkpointId: 1 });
  t.false(stop.isStopped);
  stop.passed({ checkpointId: 2, savepoint: { ...savepoint, stops: false } });
  t.false(stop.isStopped);
  stop.passed({ checkpointId: 3, savepoint });
  t.true(stop.isStopped);
  stop.ended(2, false);
  t.true(stop.isStopped);
  stop.ended(3, false);
  t.false(stop.isStopped);
});

test("where the job ends with it the task stays as it is", (t) => {
  const stop = new SavepointStop();
  stop.passed({ checkpointId: 3, savepoint });
  stop.ended(3, true);
  t.true(stop.isStopped);
});

test("a barrier of a savepoint that is given up already stops nobody", (t) => {
  const stop = new SavepointStop();
  stop.ended(3, false);
  stop.passed({ checkpointId: 3, savepoint });
  t.false(stop.isStopped);
});
