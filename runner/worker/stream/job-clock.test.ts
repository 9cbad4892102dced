import test from "ava";
import type { Clock } from "../../base/clock.ts";
import { END_OF_PROCESSING_TIME_MS, JobClock } from "./job-clock.ts";

const MACHINE_MS = 1_800_000_000_000;
const machine: Clock = {
  nowMs: () => MACHINE_MS,
  monotonicMs: () => 0,
  sleep: () => new Promise(() => undefined),
};

test("without a TestStream a timer is due when it is set for", (t) => {
  const clock = new JobClock(machine);
  t.is(clock.nowMs(), MACHINE_MS);
  t.is(clock.timeOf(MACHINE_MS + 5), MACHINE_MS + 5);
  t.is(clock.timeOf(7), 7);
});

test("with a TestStream a timer is set by the clock that is nearer: its own, or the machine's as a delay", (t) => {
  const clock = new JobClock(machine, 0);
  t.is(clock.timeOf(7000), 7000);
  t.is(clock.timeOf(MACHINE_MS + 60_000), 60_000);
  clock.set(30_000);
  t.is(clock.timeOf(7000), 7000);
  t.is(clock.timeOf(MACHINE_MS + 60_000), 90_000);
  t.is(clock.timeOf(MACHINE_MS - 10), 29_990, "in the past of the machine: due at once");
  t.is(clock.timeOf(END_OF_PROCESSING_TIME_MS), 30_000 + END_OF_PROCESSING_TIME_MS - MACHINE_MS, "never");
});

test("a TestStream that plays in the present sets and is set in its own time", (t) => {
  const clock = new JobClock(machine, 0);
  clock.set(MACHINE_MS - 1_000_000);
  t.is(clock.timeOf(MACHINE_MS - 1_000_000 + 5), MACHINE_MS - 1_000_000 + 5);
});

test("at the end of processing time whatever is set is due", (t) => {
  const clock = new JobClock(machine, 0);
  clock.set(END_OF_PROCESSING_TIME_MS);
  for (const setForMs of [0, 7000, MACHINE_MS, MACHINE_MS + 60_000, END_OF_PROCESSING_TIME_MS])
    t.true(clock.timeOf(setForMs) <= clock.nowMs(), String(setForMs));
});

test("whoever waits for processing time is woken when a TestStream has set it, and not before", (t) => {
  const clock = new JobClock(machine, 0);
  const woken: string[] = [];
  clock.wakeAt(10, () => woken.push("at 10"));
  const forget = clock.wakeAt(10, () => woken.push("forgotten"));
  forget();
  clock.set(9);
  t.deepEqual(woken, []);
  clock.set(10);
  clock.set(11);
  t.deepEqual(woken, ["at 10"]);
});
