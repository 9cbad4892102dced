import test from "ava";
import type { Clock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { runSuccessiveWorkers } from "./successive-workers.ts";

/** Time passes by sleeping only. */
function sleeper() {
  let nowMs = 0;
  const slept: number[] = [];
  const clock: Clock = {
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: async (delayMs) => {
      slept.push(delayMs);
      nowMs += delayMs;
    },
  };
  return { clock, slept };
}

const never = new Promise<string>(() => undefined);

/** Each worker ends at once; those whose ordinal is in `registered` had a job server. */
function workers(registered: readonly number[], onOpen: (ordinal: number) => void = () => undefined) {
  const events: string[] = [];
  const open = async (ordinal: number) => {
    events.push(`open ${ordinal}`);
    onOpen(ordinal);
    return {
      ended: Promise.resolve("gone"),
      wasRegistered: registered.includes(ordinal),
      close: async () => void events.push(`close ${ordinal}`),
    };
  };
  return { open, events };
}

test("a worker is closed before the next one is opened, with longer and longer pauses, until it is given up", async (t) => {
  const { clock, slept } = sleeper();
  const { open, events } = workers([0]);
  const reason = await runSuccessiveWorkers({ open, stop: never, reconnectMs: 2_000, clock, log: silentLog() });
  t.is(reason, "gone; it was waited for 1 s");
  t.deepEqual(slept, [200, 400, 800]);
  t.deepEqual(events, ["open 0", "close 0", "open 1", "close 1", "open 2", "close 2", "open 3", "close 3"]);
});

test("a job server that has come back starts the waiting anew", async (t) => {
  const { clock, slept } = sleeper();
  const { open } = workers([0, 3]);
  await runSuccessiveWorkers({ open, stop: never, reconnectMs: 2_000, clock, log: silentLog() });
  t.deepEqual(slept, [200, 400, 800, 200, 400, 800]);
});

test("a local worker ends with its job server", async (t) => {
  const { clock, slept } = sleeper();
  const { open, events } = workers([0]);
  t.is(await runSuccessiveWorkers({ open, stop: never, reconnectMs: 0, clock, log: silentLog() }), "gone");
  t.deepEqual([slept, events], [[], ["open 0", "close 0"]]);
});

test("a worker that is told to stop while it waits opens no other", async (t) => {
  const { clock } = sleeper();
  const stop = Promise.withResolvers<string>();
  const { open, events } = workers([], (ordinal) => {
    if (ordinal === 1) stop.resolve("SIGTERM");
  });
  const wait = { open, stop: stop.promise, reconnectMs: 60_000, clock, log: silentLog() };
  t.is(await runSuccessiveWorkers(wait), "SIGTERM");
  t.deepEqual(events.at(-1), "close 1");
});
