import test from "ava";
import type { Clock } from "../../base/clock.ts";
import { BarrierTimes } from "./barrier-times.ts";

function times() {
  let nowMs = 1_000;
  const clock: Clock = { nowMs: () => nowMs, monotonicMs: () => nowMs, sleep: () => Promise.resolve() };
  return { times: new BarrierTimes(clock), pass: (ms: number) => (nowMs += ms) };
}

for (const overtook of [false, true])
  test(`what was in flight is waited for as ${overtook ? "alignment, where a barrier overtook" : "part of the wait for what was before the barrier"}; it is no writing`, (t) => {
    const { times: task, pass } = times();
    task.aligning();
    pass(10);
    task.aligning();
    task.came(1, "a running bundle");
    pass(200);
    const frozen = task.frozen(1, overtook);
    t.is(frozen.waitedFor, "a running bundle");
    pass(3_000);
    frozen.whole();
    pass(40_000);
    t.deepEqual(
      frozen.durations(),
      overtook
        ? { alignmentMs: 3_010, commitWaitMs: 200, writeMs: 40_000 }
        : { alignmentMs: 10, commitWaitMs: 3_200, writeMs: 40_000 },
    );
  });

test("a barrier that nothing holds up takes no time but to be written", (t) => {
  const { times: task, pass } = times();
  task.came(1, "");
  const frozen = task.frozen(1, false);
  pass(7);
  t.deepEqual(frozen.durations(), { alignmentMs: 0, commitWaitMs: 0, writeMs: 7 });
});

test("of barriers behind one another each has waited since it came; one that overtakes has not", (t) => {
  const { times: task, pass } = times();
  task.came(1, "a running bundle");
  pass(30);
  task.came(2, "input before the barrier");
  pass(5);
  const first = task.frozen(1, false);
  pass(10);
  const second = task.frozen(2, false);
  t.is(first.durations().commitWaitMs, 35);
  t.is(second.durations().commitWaitMs, 15);
  t.deepEqual([first.waitedFor, second.waitedFor], ["a running bundle", "input before the barrier"]);
  task.aligning();
  pass(4);
  t.deepEqual(task.frozen(3, true).durations(), { alignmentMs: 4, commitWaitMs: 0, writeMs: 0 });
});
