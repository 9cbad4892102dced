// A bounded number of schedules; `make simulate SEED=n SCHEDULES=m` runs more.
import test from "ava";
import { FAULTS, type FaultKind, runSchedule, type ScheduleResult } from "./run-schedule.ts";

const FIRST_SEED = 1;

async function run(count: number, faults: boolean): Promise<ScheduleResult[]> {
  const results: ScheduleResult[] = [];
  for (let index = 0; index < count; index++) results.push(await runSchedule({ seed: FIRST_SEED + index, faults }));
  return results;
}

function complaintsOf(results: readonly ScheduleResult[]): string[] {
  return results.flatMap(({ seed, complaints }) => complaints.map((complaint) => `seed ${seed}: ${complaint}`));
}

test("each element is counted exactly once in every schedule without crashes", async (t) => {
  const results = await run(15, false);
  t.deepEqual(complaintsOf(results), []);
  t.true(results.every(({ restarts }) => restarts === 0));
  t.true(results.some(({ checkpoints }) => checkpoints > 3));
});

test("each element is counted exactly once whatever crashes", async (t) => {
  const results = await run(25, true);
  t.deepEqual(complaintsOf(results), []);
  const hits = (kind: FaultKind) => results.reduce((sum, { faults }) => sum + faults[kind], 0);
  for (const kind of FAULTS) t.true(hits(kind) > 0, `no schedule had a fault of kind "${kind}"`);
  t.true(results.filter(({ restores }) => restores > 0).length > 5);
  t.true(results.some(({ finalizations }) => finalizations > 0));
  t.true(results.some(({ atOnce }) => atOnce > 1));
  t.true(results.some(({ partialRestarts }) => partialRestarts > 0));
});

for (const mode of ["unaligned", "timeout"] as const)
  test(`each element is counted exactly once whatever crashes, where barriers overtake data: ${mode}`, async (t) => {
    const results: ScheduleResult[] = [];
    for (let seed = 101; seed <= 116; seed++) results.push(await runSchedule({ seed, faults: true, mode }));
    t.deepEqual(complaintsOf(results), []);
    t.true(results.filter(({ inFlightRestores }) => inFlightRestores > 0).length > 5);
  });

test("a seed is a schedule: the same one runs the same way again", async (t) => {
  const first = await runSchedule({ seed: 7, faults: true });
  t.deepEqual(await runSchedule({ seed: 7, faults: true }), first);
});
