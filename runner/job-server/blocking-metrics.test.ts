import test from "ava";
import type { TaskMetrics } from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import type { TaskAttemptId } from "../base/ids.ts";
import { decodeMonitoringInfo, encodeMonitoringInfo } from "../base/monitoring-info.ts";
import { decodeCounter } from "../base/monitoring-infos.ts";
import { BlockingMetrics } from "./blocking-metrics.ts";

function counter(value: number): Uint8Array {
  const type = "beam:metrics:sum_int64:v1";
  return encodeMonitoringInfo({ urn: "u", type, payload: Uint8Array.of(value), labels: {}, startTime: undefined });
}

function told(attempt: string, committed: number, attempted: number): TaskMetrics {
  return { jobId: "job", taskAttemptId: attempt, committed: [counter(committed)], attempted: [counter(attempted)] };
}

function open() {
  let now = 0;
  const clock: Clock = { nowMs: () => now, monotonicMs: () => now, sleep: () => Promise.resolve() };
  let published = 0;
  let last: { attempted: bigint | undefined; committed: bigint | undefined } | undefined;
  const sum = ([info]: readonly Uint8Array[]) =>
    info === undefined ? undefined : decodeCounter(decodeMonitoringInfo(info));
  const metrics = new BlockingMetrics(
    {
      metrics: (attempted, committed) => {
        published++;
        last = { attempted: sum(attempted), committed: sum(committed) };
      },
    },
    clock,
  );
  const sumsNow = () => {
    metrics.publish();
    return last;
  };
  return { metrics, totals: sumsNow, published: () => published, pass: (ms: number) => (now += ms) };
}

const A = "a" as TaskAttemptId;
const B = "b" as TaskAttemptId;

test("what runs is attempted with what it told last; what has finished is committed too", (t) => {
  const { metrics, totals } = open();
  metrics.told(told("a", 1, 3));
  metrics.told(told("a", 4, 5));
  t.deepEqual(totals(), { attempted: 5n, committed: undefined });
  metrics.ended(A, true);
  t.deepEqual(totals(), { attempted: 5n, committed: 4n });
  metrics.told(told("b", 10, 20));
  t.deepEqual(totals(), { attempted: 25n, committed: 4n });
});

test("a failed attempt, and one that is taken back, are attempted and no more", (t) => {
  const { metrics, totals } = open();
  metrics.told(told("a", 4, 5));
  metrics.ended(A, true);
  metrics.told(told("b", 1, 2));
  metrics.ended(B, false);
  t.deepEqual(totals(), { attempted: 7n, committed: 4n });
  metrics.takenBack([A, "never ran" as TaskAttemptId]);
  t.deepEqual(totals(), { attempted: 7n, committed: undefined });
  metrics.told(told("a2", 6, 6));
  metrics.ended("a2" as TaskAttemptId, true);
  t.deepEqual(totals(), { attempted: 13n, committed: 6n });
});

test("totals are told at most once in a while, and when asked for", (t) => {
  const { metrics, totals, published, pass } = open();
  for (let at = 0; at < 100; at++) {
    metrics.told(told(`${at}`, 1, 1));
    metrics.ended(`${at}` as TaskAttemptId, true);
  }
  t.is(published(), 1);
  t.deepEqual(totals(), { attempted: 100n, committed: 100n });
  t.is(published(), 2);
  totals();
  t.is(published(), 2);
  pass(1_000);
  metrics.told(told("more", 1, 1));
  t.is(published(), 3);
});
