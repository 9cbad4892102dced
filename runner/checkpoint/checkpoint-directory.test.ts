import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { systemClock } from "../base/clock.ts";
import { CheckpointDirectory } from "./checkpoint-directory.ts";
import { ATTEMPTS_PER_CLAIM, SupersededError } from "./leader-claim.ts";
import { readManifests } from "./read-manifests.ts";
import type { SnapshotManifest } from "./snapshot-manifest.ts";

function newPath(t: ExecutionContext): string {
  const root = mkdtempSync(join(tmpdir(), "weir-checkpoints-"));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  return join(root, "job-1");
}

async function opened(path: string): Promise<CheckpointDirectory> {
  const directory = new CheckpointDirectory(path);
  await directory.open();
  return directory;
}

function manifest(checkpointId: number): SnapshotManifest {
  return {
    jobId: "job-1",
    jobName: "job",
    checkpointId,
    executionAttempt: 1,
    graphFingerprint: "00",
    maxParallelism: 128,
    triggeredMs: 0,
    completedMs: 0,
    tasks: [],
  };
}

test("who claims a folder later has the greater epoch, other attempts, and finds what is there", async (t) => {
  const path = newPath(t);
  const first = await opened(path);
  const one = await first.claim(7, systemClock);
  t.deepEqual(one, { epoch: 1, attemptFloor: 7, checkpointIds: [], stateFiles: [] });
  await first.write(manifest(3));
  const two = await (await opened(path)).claim(0, systemClock);
  t.deepEqual([two.epoch, two.attemptFloor, two.checkpointIds], [2, 7 + ATTEMPTS_PER_CLAIM, [3]]);
});

test("an older leader cannot complete a checkpoint, nor delete the folder", async (t) => {
  const path = newPath(t);
  const older = await opened(path);
  await older.claim(0, systemClock);
  await older.write(manifest(1));
  const newer = await opened(path);
  await newer.claim(0, systemClock);
  await t.throwsAsync(older.write(manifest(2)), { instanceOf: SupersededError, message: /Another job server/ });
  await older.remove();
  t.deepEqual((await newer.contents()).checkpointIds.length, 2);
  await newer.write(manifest(5));
  await newer.remove();
  t.throws(() => readdirSync(path));
});

test("of claims that are made at once each has an epoch of its own, and only the last may write", async (t) => {
  const path = newPath(t);
  const directories = await Promise.all(Array.from({ length: 5 }, () => opened(path)));
  const claims = await Promise.all(directories.map((directory) => directory.claim(0, systemClock)));
  const epochs = claims.map(({ epoch }) => epoch);
  t.deepEqual(
    epochs.toSorted((left, right) => left - right),
    [1, 2, 3, 4, 5],
  );
  const written = await Promise.allSettled(directories.map((directory, index) => directory.write(manifest(index))));
  t.deepEqual(
    written.map(({ status }) => status),
    epochs.map((epoch) => (epoch === 5 ? "fulfilled" : "rejected")),
  );
});

test("manifests of a later leader are newer, whatever their ids", async (t) => {
  const path = newPath(t);
  const older = await opened(path);
  await older.claim(0, systemClock);
  await older.write(manifest(6));
  const newer = await opened(path);
  const { checkpointIds } = await newer.claim(0, systemClock);
  t.deepEqual(checkpointIds, [6]);
  // In the moment in which it was superseded.
  await older.write(manifest(9)).catch(() => undefined);
  await newer.write(manifest(7));
  const found = await readManifests(newer, (await newer.contents()).checkpointIds);
  t.deepEqual(
    found.manifests.map(({ checkpointId, leaderEpoch }) => [checkpointId, leaderEpoch]),
    [
      [6, 1],
      [9, 1],
      [7, 2],
    ],
  );
});
