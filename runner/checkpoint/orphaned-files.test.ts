import test from "ava";
import { orphanedFiles } from "./orphaned-files.ts";
import type { SnapshotManifest } from "./snapshot-manifest.ts";

function manifest(checkpointId: number, ...paths: string[]): SnapshotManifest {
  return {
    ...{ jobId: "job", jobName: "a job", checkpointId, executionAttempt: 2, graphFingerprint: "ab" },
    ...{ maxParallelism: 128, triggeredMs: 1_000, completedMs: 2_000 },
    tasks: [
      {
        ...{ vertexId: "v0", subtaskIndex: 0, parallelism: 1 },
        files: paths.map((path) => ({ path, byteLength: 1, sha256: "00" })),
      },
    ],
  };
}

/** "v2" is of a region that has not restarted. */
const attemptOf = (vertexId: string) =>
  new Map([
    ["v0", 3],
    ["v12", 30],
    ["v2", 2],
  ]).get(vertexId);

const at = (...names: string[]) => names.map((name) => `s3://bucket/job/${name}`);

test("what no kept checkpoint lists goes when its attempt is over; what the attempt writes now stays", (t) => {
  const kept = [
    manifest(7, ...at("state/v0.0.1-3.base", "state/v0.0.2-7.delta")),
    manifest(9, ...at("state/v0.0.1-3.base", "state/v0.0.2-7.delta", "state/v0.0.3-9.delta")),
  ];
  const stays = at(
    "checkpoint-7.json",
    "checkpoint-9.json",
    "checkpoint-10.json.ab-cd.part",
    "state/v0.0.1-3.base",
    "state/v0.0.2-7.delta",
    "state/v0.0.3-8.delta",
    "state/v0.0.3-9.delta",
    "state/v0.0.3-10.delta.part",
    "state/v12.4.30-10.base",
    "state/v2.0.2-10.delta",
    "state/gone.0.1-10.delta",
    "leader-2.json",
    "state/notes.txt",
    "state/v0.0.1-3.base.d/of-a-user",
    "notes/v0.0.1-4.base",
  );
  const manifests = at("checkpoint-5.json", "checkpoint-6.json.ab-cd.part");
  const files = at(
    "state/probe-12-34.part",
    "state/v0.0.1-4.delta",
    "state/v0.0.2-6.delta",
    "state/v0.0.2-8.delta.ab-cd.part",
  );
  t.deepEqual(orphanedFiles({ locations: [...files, ...stays, ...manifests], kept, attemptOf }), [
    ...manifests,
    ...files,
  ]);
});

test("where no checkpoint is kept, no manifest goes", (t) => {
  const locations = at("checkpoint-1.json", "state/v0.0.1-1.base");
  t.deepEqual(orphanedFiles({ locations, kept: [], attemptOf }), []);
});
