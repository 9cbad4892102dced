import test from "ava";
import fc from "fast-check";
import { CheckpointSchedule } from "./checkpoint-schedule.ts";

const FILE = { path: "f", byteLength: 1, sha256: "00" };

test("a checkpoint is acknowledged when each of its tasks has said so, once", (t) => {
  const schedule = new CheckpointSchedule({ intervalMs: 100, timeoutMs: 1_000, minPauseMs: 0, maxConcurrent: 1 });
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
  const schedule = new CheckpointSchedule({ intervalMs: 100, timeoutMs: 1_000, minPauseMs: 50, maxConcurrent: 1 });
  schedule.begin(["a"], 0);
  const first = schedule.trigger(100);
  t.is(schedule.ended(first!, 110), 10);
  t.is(schedule.wakeMs, 200);
  const second = schedule.trigger(200);
  schedule.ended(second!, 290);
  t.is(schedule.wakeMs, 340);
});

test("a checkpoint in a hurry comes at once, but for the pause; the one after it in its time", (t) => {
  const schedule = new CheckpointSchedule({ intervalMs: 100, timeoutMs: 1_000, minPauseMs: 50, maxConcurrent: 1 });
  schedule.begin(["a"], 0);
  schedule.hurry(10);
  t.is(schedule.due(10), "trigger");
  schedule.ended(schedule.trigger(10)!, 20);
  t.is(schedule.wakeMs, 110);
  schedule.hurry(30);
  t.is(schedule.wakeMs, 70);
});

test("as many as may run do, and one that all have acknowledged has what older ones lack", (t) => {
  const schedule = new CheckpointSchedule({ intervalMs: 100, timeoutMs: 1_000, minPauseMs: 0, maxConcurrent: 2 });
  schedule.begin(["a", "b"], 0);
  const first = schedule.trigger(100)!;
  t.is(schedule.wakeMs, 200);
  const second = schedule.trigger(200)!;
  t.is(schedule.wakeMs, 1_100);
  t.is(schedule.trigger(300), undefined);
  schedule.acknowledged(first, "a", [FILE]);
  schedule.acknowledged(second, "a", [FILE]);
  t.deepEqual(schedule.waitingFor(first), ["b"]);
  const result = schedule.acknowledged(second, "b", [FILE]);
  t.deepEqual(result.kind === "acknowledged" && result.subsumed, [first]);
  t.is(schedule.ended(first, 310), 210);
  t.is(schedule.due(310), "trigger");
  t.deepEqual(schedule.running, [second]);
});

test("one that runs alone waits for the others, and others for it", (t) => {
  const schedule = new CheckpointSchedule({ intervalMs: 100, timeoutMs: 1_000, minPauseMs: 0, maxConcurrent: 3 });
  schedule.begin(["a"], 0);
  const first = schedule.trigger(100)!;
  t.is(schedule.trigger(110, true), undefined);
  t.is(schedule.trigger(200), undefined);
  t.is(schedule.wakeMs, 1_100);
  schedule.ended(first, 250);
  const alone = schedule.trigger(250, true)!;
  t.is(schedule.trigger(260), undefined);
  schedule.ended(alone, 400);
  t.is(schedule.due(400), "trigger");
});

interface Pending {
  readonly id: number;
  readonly waiting: Set<string>;
  readonly triggeredMs: number;
}

const TASKS = ["a", "b", "c"];
const happening = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("time"), ms: fc.integer({ min: 1, max: 120 }) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("ack"),
      task: fc.constantFrom(...TASKS),
      age: fc.constantFrom(0, 0, 0, 1, 2),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart") }) },
);

for (const maxConcurrent of [1, 3])
  test(`whatever happens: at most ${maxConcurrent} at once, ids grow, in their order complete only when all have acknowledged, never too soon`, (t) => {
    const policy = { intervalMs: 100, timeoutMs: 300, minPauseMs: maxConcurrent === 1 ? 40 : 0, maxConcurrent };
    const seen = { completed: 0, timeouts: 0, subsumed: 0, most: 0 };
    fc.assert(
      fc.property(fc.array(happening, { maxLength: 120, size: "max" }), (events) => {
        const schedule = new CheckpointSchedule(policy);
        let pending: Pending[] = [];
        let [nowMs, lastId, newest, lastTriggerMs, lastEndMs] = [0, 0, 0, -Infinity, -Infinity];
        const end = (id: number) => {
          const isEnded =
            schedule.ended(
              schedule.running.find((each) => (each as number) === id)!,
              nowMs,
            ) !== undefined;
          pending = pending.filter((each) => each.id !== id);
          lastEndMs = nowMs;
          return isEnded;
        };
        schedule.begin(TASKS, nowMs);
        for (const event of events) {
          if ("ms" in event) {
            nowMs += event.ms;
            const isLate = pending.some(({ triggeredMs }) => nowMs >= triggeredMs + policy.timeoutMs);
            const due = schedule.due(nowMs);
            if (isLate !== (due === "timeout")) return false;
            if (due === "trigger") {
              if (nowMs < lastTriggerMs + policy.intervalMs || nowMs < lastEndMs + policy.minPauseMs) return false;
              const id = schedule.trigger(nowMs) as number;
              if (id <= lastId) return false;
              lastId = id;
              lastTriggerMs = nowMs;
              pending.push({ id, waiting: new Set(TASKS), triggeredMs: nowMs });
              seen.most = Math.max(seen.most, pending.length);
              if (pending.length > maxConcurrent) return false;
            } else if (due === "timeout") {
              seen.timeouts++;
              if (!end(schedule.running[0] as number)) return false;
            }
          } else if ("task" in event) {
            const id = lastId - event.age;
            const result = schedule.acknowledged(id, event.task, [FILE]);
            const expected = pending.find((each) => each.id === id);
            if ((result.kind !== "stale") !== (expected?.waiting.delete(event.task) === true)) return false;
            if (result.kind !== "acknowledged") continue;
            if (expected?.waiting.size !== 0 || result.files.size !== TASKS.length || id <= newest) return false;
            newest = id;
            seen.completed++;
            seen.subsumed += result.subsumed.length;
            for (const older of [...result.subsumed, id]) if (!end(older)) return false;
            if (pending.some((each) => each.id < id)) return false;
          } else {
            schedule.end();
            if (schedule.wakeMs !== undefined || !schedule.isIdle) return false;
            schedule.begin(TASKS, nowMs);
            pending = [];
            lastTriggerMs = nowMs;
          }
        }
        return true;
      }),
    );
    t.true(seen.completed > 20 && seen.timeouts > 5 && seen.most === maxConcurrent, JSON.stringify(seen));
    t.is(seen.subsumed > 0, maxConcurrent > 1);
  });
