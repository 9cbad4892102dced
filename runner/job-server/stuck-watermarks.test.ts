import test from "ava";
import type { WorkerId } from "../base/ids.ts";
import type { TaskProgress, TaskStatus } from "./stream-task-table.ts";
import type { TaskHold } from "./watermark-text.ts";
import { StuckWatermarks } from "./stuck-watermarks.ts";

const timer: TaskHold = {
  kind: "event-time timer",
  transform: "Wait",
  detail: "flush",
  timestamp: 10,
  count: 3,
  keyGroupFirst: 4,
  keyGroupLast: 9,
};

function task(vertexId: string, status: Partial<TaskStatus>): TaskProgress {
  return {
    vertexId,
    vertexName: `[${vertexId}]`,
    subtaskIndex: 0,
    parallelism: 1,
    workerId: "w" as WorkerId,
    state: "running",
    status: {
      inputWatermark: 20,
      outputWatermark: 10,
      holdKind: "timer",
      holdTransform: "Wait",
      queuedBytes: 5,
      bundleAgeMs: 0,
      holds: [timer],
      fullToVertices: [],
      ...status,
    },
  };
}

test("a watermark that stands still while input waits is told of once, with what holds it", (t) => {
  const stuck = new StuckWatermarks(60_000);
  const tasks = [task("a", { queuedBytes: 0 }), task("b", {}), task("c", {})];
  t.is(stuck.look(tasks, 0), undefined);
  t.is(stuck.look(tasks, 59_999), undefined);
  t.is(
    stuck.look(tasks, 60_000),
    'The watermark of [b] has stood at 1970-01-01T00:00:00.010Z for 1 min although input is waiting: held by 3 event-time timers of Wait, family "flush" at 1970-01-01T00:00:00.010Z, key groups 4 to 9; 5 bytes of input wait.',
  );
  t.is(stuck.look(tasks, 200_000), undefined);
  t.is(stuck.look([task("b", { outputWatermark: 11 })], 200_001), undefined);
  t.regex(stuck.look([task("b", { outputWatermark: 11 })], 260_001) ?? "", /\[b\]/);
});

test("a source with nothing to read is not stuck, a bundle that does not end is", (t) => {
  const stuck = new StuckWatermarks(60_000);
  const idle = task("a", { holdKind: "residual", queuedBytes: 0 });
  const busy = task("b", { holdKind: "", holds: [], queuedBytes: 0, bundleAgeMs: 70_000, outputWatermark: -9.3e15 });
  stuck.look([idle, busy], 0);
  t.regex(stuck.look([idle, busy], 60_000) ?? "", /\[b\] has stood at -∞.*bundle has run for 70 s/);
});
