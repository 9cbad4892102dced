import test from "ava";
import { silentLog } from "../../base/log.ts";
import { MemoryRows } from "../../state/state-rows.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import type { BundleSplit, Residual } from "../task/bundle-attempt.ts";
import { bundleInputOf } from "../task/bundle-input.ts";
import type { BundleRunner } from "./bundle-runner.ts";
import { BundleSplits } from "./bundle-splits.ts";
import { runningBundle } from "./bundle-work.ts";
import { Residuals } from "./residuals.ts";
import type { StreamStageInit } from "./stream-stage-init.ts";

/** Elements of one byte each. */
const inputOf = (...bytes: number[]) => bundleInputOf([{ data: Uint8Array.from(bytes), elementCount: bytes.length }]);
const given = (byte: number, delayMs = 0): Residual => ({
  element: Uint8Array.of(byte),
  delayMs,
  watermarkMs: undefined,
});

function splitting() {
  let nowMs = 1_800_000_000_000;
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs, sleep: () => new Promise<void>(() => undefined) };
  const rows = new MemoryRows();
  const residuals = new Residuals(rows.table("residuals"), "0.1");
  const next: BundleSplit[] = [];
  const runner = {
    split: (_fraction: number, accept: (split: BundleSplit) => void) => {
      for (const split of next.splice(0, 1)) accept(split);
      return Promise.resolve();
    },
  };
  const jobClock = clock as unknown as StreamStageInit["jobClock"];
  const plan = { skip: (_bytes: Uint8Array, at: number) => at + 1 } as StreamStageInit["plan"];
  const limits = { maxBundleTimeMs: 1_000 } as StreamStageInit["limits"];
  const init = { plan, residuals, clock, jobClock, limits, log: silentLog() };
  const splits = new BundleSplits(init, runner as unknown as BundleRunner);
  const begin = () => runningBundle(init, undefined, false, 0 as Timestamp);
  return { splits, residuals, rows, next, begin, pass: (ms: number) => (nowMs += ms), nowMs: () => nowMs };
}

/** In the order in which a task runs them, restored or not. */
function order(residuals: Residuals, nowMs: number): number[] {
  return residuals.takeDue(nowMs, 100)?.elements.map((element) => element[0] ?? -1) ?? [];
}

for (const restored of [false, true])
  test(`a bundle that fails after splits runs again what it kept, then what the last split gave back, then the one before${restored ? ", after a restore too" : ""}`, async (t) => {
    const { splits, residuals, rows, next, begin, pass, nowMs } = splitting();
    const running = begin();
    pass(100);
    next.push({ primary: inputOf(1), residuals: [given(20)], residualChannel: inputOf(30, 31) });
    await splits.split(running);
    pass(100);
    next.push({ primary: inputOf(2), residuals: [given(10)], residualChannel: inputOf() });
    await splits.split(running);
    if (!restored) running.residuals?.release();
    const found = restored ? new Residuals(rows.table("residuals"), "0.2") : residuals;
    t.deepEqual(order(found, nowMs()), [2, 10, 20, 30, 31]);
  });

test("what a bundle gives back at its end comes before what its splits gave back, but for a delay", async (t) => {
  const { splits, residuals, next, begin, pass, nowMs } = splitting();
  const running = begin();
  pass(100);
  next.push({ primary: inputOf(1), residuals: [given(20)], residualChannel: inputOf() });
  await splits.split(running);
  pass(100);
  running.residuals?.commit();
  splits.addResiduals([given(10), given(40, 50)], running);
  t.is(residuals.count, 3);
  t.deepEqual(order(residuals, nowMs()), [10, 20]);
  t.is(residuals.nextDueMs, nowMs() + 50);
});
