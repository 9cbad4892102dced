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
    task.came();
    pass(200);
    const frozen = task.frozen(overtook);
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
  task.came();
  const frozen = task.frozen(false);
  pass(7);
  t.deepEqual(frozen.durations(), { alignmentMs: 0, commitWaitMs: 0, writeMs: 7 });
});
