import test from "ava";
import { TolerableFailures } from "./tolerable-failures.ts";

test("any number of checkpoints may fail where the user does not say", (t) => {
  const failures = new TolerableFailures(undefined);
  for (let id = 1; id <= 1_000; id++) t.is(failures.failed(id, "down"), undefined);
});

test("only failures in a row count; the one too many is told, and the count begins anew", (t) => {
  const failures = new TolerableFailures(1);
  t.is(failures.failed(1, "down."), undefined);
  failures.completed(2);
  t.is(failures.failed(3, "down."), undefined);
  const told =
    "2 checkpoints in a row have failed, and --tolerable_checkpoint_failures=1 allows no more; the last one: ";
  t.is(failures.failed(4, "still down."), `${told}still down`);
  t.is(failures.failed(5, "down"), undefined);
});

test("a failure of one that a later one has overtaken counts for nothing", (t) => {
  const failures = new TolerableFailures(0);
  failures.completed(8);
  t.is(failures.failed(7, "late"), undefined);
  t.regex(failures.failed(9, "down") ?? "", /^A checkpoint has failed/);
});
