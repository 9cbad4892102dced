import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import type { SnapshotFile, StreamTaskDeployment } from "../../../proto/gen/worker.ts";
import { silentLog } from "../../base/log.ts";
import { formerPartsOf } from "../../checkpoint/rescale.ts";
import { keyGroupPrefix, NO_KEY_GROUP } from "../../state/state-rows.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import { LocalSnapshots } from "./local-snapshots.ts";
import { Residuals } from "./residuals.ts";
import { TaskMarks } from "./task-marks.ts";
import { TaskRows } from "./task-rows.ts";

const MAX_PARALLELISM = 16;
const directory = mkdtempSync(join(tmpdir(), "weir-former-rows-test-"));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

let attempts = 0;

function open(deployment: Partial<StreamTaskDeployment>): Promise<TaskRows> {
  return TaskRows.open({
    deployment: {
      vertexId: "v",
      subtaskIndex: 0,
      parallelism: 1,
      inputs: [],
      outputs: [],
      restore: [],
      former: [],
      formerParallelism: 0,
      renamed: [],
      ...deployment,
    },
    executionAttempt: ++attempts,
    checkpointDirectory: directory,
    spillDirectory: directory,
    localSnapshots: new LocalSnapshots({ folder: join(directory, "local"), limitBytes: 0, log: silentLog() }),
    memoryBytes: 1_000_000,
    log: silentLog(),
  });
}

/** What all subtasks restore, and the files of what they then snapshot. */
async function rescaled(former: readonly (readonly SnapshotFile[])[], parallelism: number) {
  const seen: string[] = [];
  const files: (readonly SnapshotFile[])[] = [];
  const residualsOf: number[] = [];
  const marks: (number | undefined)[] = [];
  for (let subtaskIndex = 0; subtaskIndex < parallelism; subtaskIndex++) {
    const parts = formerPartsOf(subtaskIndex, parallelism, former.length, MAX_PARALLELISM);
    const rows = await open({
      subtaskIndex,
      parallelism,
      former: parts.map((part) => ({ ...part, files: [...(former[part.subtaskIndex] ?? [])] })),
      formerParallelism: former.length,
    });
    const task = new TaskMarks(rows.table("task"), subtaskIndex);
    marks.push(task.get("main"));
    const residuals = new Residuals(rows.table("residuals"), `${subtaskIndex}.${attempts}`);
    residualsOf.push(residuals.count);
    for (const [key] of rows.table("user-state/t/s").entries()) seen.push(`key ${key.slice(2)}`);
    for (const [, value] of rows.table("residuals").entries()) seen.push(`residual ${value.at(-1)}`);
    for (const [key, value] of rows.table("side-inputs").entries())
      seen.push(`side ${subtaskIndex} ${key.slice(2)} ${value[0]}`);
    const [watermark] = [...rows.table("grouping").entries()].map(([, value]) => Buffer.from(value).readDoubleBE());
    if (watermark !== undefined) seen.push(`grouping ${subtaskIndex} ${watermark}`);
    files.push(await rows.snapshot(attempts));
    await rows.close();
  }
  return { seen: seen.sort(), files, residualsOf, marks };
}

function float64(value: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
}

test("at another parallelism, and back, every key and every residual is in one subtask, and the least time counts", async (t) => {
  const former: (readonly SnapshotFile[])[] = [];
  for (const subtaskIndex of [0, 1]) {
    const rows = await open({ subtaskIndex, parallelism: 2 });
    new TaskMarks(rows.table("task"), subtaskIndex).set("main", (200 - subtaskIndex) as Timestamp);
    const residuals = new Residuals(rows.table("residuals"), `${subtaskIndex}.${attempts}`);
    for (let index = 0; index < 3; index++)
      residuals.add({
        element: Uint8Array.of(subtaskIndex * 3 + index),
        dueMs: 0,
        hold: 5 as Timestamp,
        truncated: false,
      });
    for (let keyGroup = subtaskIndex * 8; keyGroup < subtaskIndex * 8 + 8; keyGroup++)
      rows.table("user-state/t/s").put(`${keyGroupPrefix(keyGroup)}k${keyGroup}`, Uint8Array.of(1));
    rows.table("side-inputs").put(`${NO_KEY_GROUP}e0:0`, Uint8Array.of(subtaskIndex));
    rows.table("grouping").put(`${NO_KEY_GROUP}t`, float64(70 + subtaskIndex));
    former.push(await rows.snapshot(1));
    await rows.close();
  }
  const owned = [
    ...Array.from({ length: 16 }, (_, keyGroup) => `key k${keyGroup}`),
    ...Array.from({ length: 6 }, (_, index) => `residual ${index}`),
  ];
  const sharedBy = (parallelism: number) =>
    Array.from({ length: parallelism }, (_, index) => [`grouping ${index} 70`, `side ${index} e0:0 1`]).flat();
  let files: readonly (readonly SnapshotFile[])[] = former;
  for (const parallelism of [3, 1, 4, 2]) {
    const result = await rescaled(files, parallelism);
    t.deepEqual(result.seen, [...owned, ...sharedBy(parallelism)].sort(), `parallelism ${parallelism}`);
    t.true(Math.max(...result.residualsOf) - Math.min(...result.residualsOf) <= 1);
    t.deepEqual(result.marks, new Array<number>(parallelism).fill(199));
    t.true(result.files.every(([first, ...rest]) => first?.path.endsWith(".base") === true && rest.length === 0));
    files = result.files;
  }
});

test("rows that only a lone subtask can have are not divided", async (t) => {
  const rows = await open({});
  rows.table("test-stream").put(`${NO_KEY_GROUP}p`, Uint8Array.of(1));
  const files = await rows.snapshot(1);
  await rows.close();
  await t.throwsAsync(rescaled([files], 2), { message: /test-stream.*cannot be divided/ });
});

test("transforms that have other ids now find their states and timers", async (t) => {
  const rows = await open({});
  rows.table("user-state/old/s").put(`${keyGroupPrefix(3)}k`, Uint8Array.of(1));
  rows.table("timers").put(`${keyGroupPrefix(3)}\x03old\x01frest`, Uint8Array.of(2));
  const files = [...(await rows.snapshot(1))];
  await rows.close();
  const restored = await open({
    former: [{ subtaskIndex: 0, firstKeyGroup: 0, endKeyGroup: 16, files }],
    formerParallelism: 1,
    renamed: [{ formerId: "old", id: "newer" }],
  });
  t.deepEqual([...restored.table("user-state/newer/s").entries()].length, 1);
  t.deepEqual(
    [...restored.table("timers").entries()].map(([key]) => key),
    [`${keyGroupPrefix(3)}\x05newer\x01frest`],
  );
  await restored.close();
});
