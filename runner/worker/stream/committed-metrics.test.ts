import test from "ava";
import { MonitoringInfoSet } from "../../base/monitoring-infos.ts";
import { MemoryRows, NO_KEY_GROUP } from "../../state/state-rows.ts";
import { CommittedMetrics } from "./committed-metrics.ts";
import { droppedInfo, STATEFUL_PAR_DO_DROPPED } from "./dropped-input.ts";

const counted = (count: number) => droppedInfo("t", STATEFUL_PAR_DO_DROPPED, count);

function valueOf(encoded: readonly Uint8Array[]): number {
  const set = new MonitoringInfoSet();
  for (const info of encoded) set.mergeEncoded(info);
  const payload = set.values()[0]?.payload ?? new Uint8Array([0]);
  return payload[0] as number;
}

test("a restored task goes on counting where its snapshot stood; attempted counts its own", (t) => {
  const table = new MemoryRows().table("metrics");
  const first = new CommittedMetrics(table, 0, 1 << 20);
  first.merge(counted(5));
  first.flush();
  first.merge(counted(7));
  t.is(valueOf(first.committed()), 12);

  const restored = new CommittedMetrics(table, 0, 1 << 20);
  t.is(valueOf(restored.committed()), 5);
  t.deepEqual(restored.attempted(), []);
  restored.merge(counted(2));
  t.is(valueOf(restored.committed()), 7);
  t.is(valueOf(restored.attempted()), 2);
});

test("what bundles that failed or run have told is attempted, and neither committed nor in the row", (t) => {
  const table = new MemoryRows().table("metrics");
  const metrics = new CommittedMetrics(table, 0, 1 << 20);
  metrics.merge(counted(5));
  metrics.running([counted(9)]);
  metrics.running([counted(10)]);
  t.deepEqual([valueOf(metrics.committed()), valueOf(metrics.attempted())], [5, 15]);
  metrics.running([]);
  metrics.failed([counted(20)]);
  t.deepEqual([valueOf(metrics.committed()), valueOf(metrics.attempted())], [5, 25]);
  metrics.flush();
  const restored = new CommittedMetrics(table, 0, 1 << 20);
  t.deepEqual([valueOf(restored.committed()), restored.attempted()], [5, []]);
});

test("what nothing was counted of has no row, and an unchanged row is not written again", (t) => {
  const written: string[] = [];
  const inner = new MemoryRows().table("metrics");
  const table = { ...inner, put: (key: string, value: Uint8Array) => (written.push(key), inner.put(key, value)) };
  const metrics = new CommittedMetrics(table, 3, 1 << 20);
  metrics.flush();
  t.deepEqual(written, []);
  metrics.merge(counted(1));
  metrics.flush();
  metrics.flush();
  t.deepEqual(written, [`${NO_KEY_GROUP}3`]);
});

test("rows of former subtasks add up in one", (t) => {
  const table = new MemoryRows().table("metrics");
  for (const subtask of [0, 1, 2]) {
    const own = new MemoryRows().table("metrics");
    const kept = new CommittedMetrics(own, subtask, 1 << 20);
    kept.merge(counted(subtask + 1));
    kept.flush();
    for (const [key, value] of own.entries()) table.put(key, value);
  }
  const merged = new CommittedMetrics(table, 1, 1 << 20);
  t.is(valueOf(merged.committed()), 6);
  merged.flush();
  t.deepEqual(
    [...table.entries()].map(([key]) => key),
    [`${NO_KEY_GROUP}1`],
  );
});
