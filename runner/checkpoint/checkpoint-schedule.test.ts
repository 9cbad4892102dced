import test from "ava";
import fc from "fast-check";
import { CheckpointSchedule } from "./checkpoint-schedule.ts";

const FILE = { path: "f", byteLength: 1, sha256: "00" };

test("a checkpoint is acknowledged when each of its tasks has said so, once", (t) => {
  const schedule = new CheckpointSchedule({ intervalMs: 100, timeoutMs: 1_000, minPauseMs: 0 });
  t.is(schedule.trigger(0), undefined);
  schedule.begin(["a", "b"], 0);
  t.is(schedule.due(99), "nothing");
  t.is(schedule.due(100), "trigger");
  const id = schedule.trigger(100);
  t.is(id as number, 1);
  t.is(schedule.trigger(101), undefined);
  t.is(schedule.acknowledged(1, "a", [FILE]).kind, "waiting");
  t.is(schedule.acknowledged(1, "a", [FILE]).kind, "stale");
  t.is(schedule.acknowledged(0, "b", [FILE]).kind, "stale");
  t.is(schedule.acknowledged(1, "b", []).kind, "acknowledged");
});

test("a slow checkpoint delays the next one by the pause, a fast one does not", (t) => {
  const schedule = new CheckpointSchedule({ intervalMs: 100, timeoutMs: 1_000, minPauseMs: 50 });
  schedule.begin(["a"], 0);
  const first = schedule.trigger(100);
  t.is(schedule.ended(first!, 110), 10);
  t.is(schedule.wakeMs, 200);
  const second = schedule.trigger(200);
  schedule.ended(second!, 290);
  t.is(schedule.wakeMs, 340);
});

test("a checkpoint in a hurry comes at once, but for the pause; the one after it in its time", (t) => {
  const schedule = new CheckpointSchedule({ intervalMs: 100, timeoutMs: 1_000, minPauseMs: 50 });
  schedule.begin(["a"], 0);
  schedule.hurry(10);
  t.is(schedule.due(10), "trigger");
  schedule.ended(schedule.trigger(10)!, 20);
  t.is(schedule.wakeMs, 110);
  schedule.hurry(30);
  t.is(schedule.wakeMs, 70);
});

interface Model {
  pending: { id: number; waiting: Set<string>; triggeredMs: number } | undefined;
  lastTriggerMs: number;
  lastEndMs: number;
}

test("whatever happens: one at a time, ids grow, complete only when all have acknowledged, never too soon", (t) => {
  const tasks = ["a", "b", "c"];
  const policy = { intervalMs: 100, timeoutMs: 300, minPauseMs: 40 };
  const event = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("time"), ms: fc.integer({ min: 1, max: 120 }) }) },
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constant("ack"),
        task: fc.constantFrom(...tasks),
        late: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart") }) },
  );
  let completed = 0;
  let timeouts = 0;
  fc.assert(
    fc.property(fc.array(event, { maxLength: 120, size: "max" }), (events) => {
      const schedule = new CheckpointSchedule(policy);
      const model: Model = { pending: undefined, lastTriggerMs: -Infinity, lastEndMs: -Infinity };
      let nowMs = 0;
      let lastId = 0;
      schedule.begin(tasks, nowMs);
      for (const happening of events) {
        if ("ms" in happening) {
          nowMs += happening.ms;
          const due = schedule.due(nowMs);
          if (due === "trigger") {
            if (model.pending !== undefined) return false;
            if (nowMs < model.lastTriggerMs + policy.intervalMs || nowMs < model.lastEndMs + policy.minPauseMs)
              return false;
            const id = schedule.trigger(nowMs) as number;
            if (id <= lastId) return false;
            lastId = id;
            model.pending = { id, waiting: new Set(tasks), triggeredMs: nowMs };
            model.lastTriggerMs = nowMs;
          } else if (due === "timeout") {
            if (model.pending === undefined || nowMs < model.pending.triggeredMs + policy.timeoutMs) return false;
            timeouts++;
            if (schedule.ended(schedule.running!, nowMs) === undefined) return false;
            model.pending = undefined;
            model.lastEndMs = nowMs;
          } else if (model.pending !== undefined && nowMs >= model.pending.triggeredMs + policy.timeoutMs) return false;
        } else if ("task" in happening) {
          const id = happening.late ? lastId - 1 : lastId;
          const result = schedule.acknowledged(id, happening.task, [FILE]);
          const isExpected = model.pending?.id === id && model.pending.waiting.delete(happening.task);
          if ((result.kind !== "stale") !== isExpected) return false;
          if (result.kind === "acknowledged") {
            if (model.pending?.waiting.size !== 0 || result.files.size !== tasks.length) return false;
            completed++;
            schedule.ended(schedule.running!, nowMs);
            model.pending = undefined;
            model.lastEndMs = nowMs;
          }
        } else {
          schedule.end();
          if (schedule.wakeMs !== undefined || schedule.running !== undefined) return false;
          schedule.begin(tasks, nowMs);
          model.pending = undefined;
          model.lastTriggerMs = nowMs;
        }
      }
      return true;
    }),
  );
  t.true(completed > 20 && timeouts > 5, `${completed} completed, ${timeouts} timed out`);
});
