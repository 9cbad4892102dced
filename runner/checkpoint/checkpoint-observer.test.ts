import test from "ava";
import { CheckpointObserver, type TaskReport } from "./checkpoint-observer.ts";

const MIB = 1024 * 1024;
const QUIET: TaskReport = {
  name: "subtask 0 of [quick]",
  files: [],
  alignmentMs: 0,
  commitWaitMs: 0,
  writeMs: 1,
  inFlightBytes: 0,
  unaligned: false,
  waitedFor: "",
};
const CIRCUMSTANCES = { intervalMs: 10_000, durationMs: 100, storageDirectory: undefined, hasRemoteWorkers: false };

function checkpoint(observer: CheckpointObserver, ...reports: Partial<TaskReport>[]) {
  observer.begin(1);
  observer.begin(2);
  for (const report of reports) observer.acknowledged(1, { ...QUIET, ...report });
  observer.acknowledged(2, { ...QUIET, commitWaitMs: 60_000, waitedFor: "what was before another checkpoint" });
  observer.gaveUp(2);
  return observer.complete(1, CIRCUMSTANCES);
}

test("a record says what was waited for longest, and how much was overtaken", (t) => {
  const observer = new CheckpointObserver();
  const { record } = checkpoint(
    observer,
    { commitWaitMs: 20, waitedFor: "input before the barrier" },
    {
      name: "subtask 1 of [slow]",
      commitWaitMs: 900,
      waitedFor: "a running bundle",
      unaligned: true,
      inFlightBytes: 10,
    },
    { unaligned: true, inFlightBytes: 5 },
  );
  t.is(record.waitedFor, "a running bundle (subtask 1 of [slow])");
  t.true(record.unaligned);
  t.is(record.inFlightBytes, 15);
  const quiet = checkpoint(observer, { waitedFor: "a running bundle" }).record;
  t.deepEqual([quiet.waitedFor, quiet.unaligned, quiet.inFlightBytes], [undefined, undefined, undefined]);
});

test("what grows over checkpoints is told of once, and stands on every record while it is so", (t) => {
  const observer = new CheckpointObserver();
  const sizes = [20, 40, 60, 80, 100, 90];
  const seen = sizes.map((size) => checkpoint(observer, { unaligned: true, inFlightBytes: size * MIB }));
  t.deepEqual(
    seen.map(({ record, news }) => [record.warnings.length, news.length]),
    [
      [0, 0],
      [0, 0],
      [0, 0],
      [1, 1],
      [1, 0],
      [0, 0],
    ],
  );
});
