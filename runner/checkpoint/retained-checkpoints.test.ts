import test from "ava";
import fc from "fast-check";
import { RetainedCheckpoints } from "./retained-checkpoints.ts";
import { decodeManifest, encodeManifest, filesOf, type SnapshotManifest } from "./snapshot-manifest.ts";

function manifestOf(checkpointId: number, ...paths: string[]): SnapshotManifest {
  return {
    jobId: "job-1",
    jobName: "job",
    checkpointId,
    executionAttempt: 1,
    graphFingerprint: "ab",
    maxParallelism: 128,
    triggeredMs: 1,
    completedMs: 2,
    tasks: [
      {
        vertexId: "a",
        subtaskIndex: 0,
        parallelism: 1,
        files: paths.map((path) => ({ path, byteLength: 3, sha256: "cd" })),
      },
    ],
  };
}

test("a manifest comes back as it was written, and what is none is named", (t) => {
  const manifest = manifestOf(7, "state/base", "/elsewhere/delta");
  t.deepEqual(decodeManifest(encodeManifest(manifest), "x"), manifest);
  const text = new TextDecoder().decode(encodeManifest(manifest));
  const newer = new TextEncoder().encode(text.replace('"version": 1', '"version": 2'));
  t.throws(() => decodeManifest(newer, "some/path"), { message: /some\/path.*version/ });
  t.throws(() => decodeManifest(new TextEncoder().encode("{"), "some/path"), { message: /some\/path/ });
});

test("a shared file stays as long as a kept checkpoint needs it", (t) => {
  const retained = new RetainedCheckpoints(2);
  t.deepEqual(retained.completed(manifestOf(1, "base", "d1")).files, []);
  retained.written(2, [{ path: "d2", byteLength: 1, sha256: "" }]);
  t.deepEqual(retained.completed(manifestOf(3, "base", "d1", "d3")).files, ["d2"]);
  const { manifests, files } = retained.completed(manifestOf(4, "base2"));
  t.deepEqual([manifests.map(({ checkpointId }) => checkpointId), files], [[1], []]);
  retained.written(6, [{ path: "d6", byteLength: 1, sha256: "" }]);
  t.deepEqual(retained.completed(manifestOf(5, "base2", "d5")).files, ["base", "d1", "d3"]);
  t.deepEqual(
    retained.newestFirst.map(({ checkpointId }) => checkpointId),
    [5, 4],
  );
  retained.damaged(5);
  t.is(retained.newestFirst[0]?.checkpointId, 4);
});

/** A task that writes deltas and now and then a base; checkpoints complete or do not. */
test("no file that a kept or a later checkpoint lists is ever deleted, and none is left behind for good", (t) => {
  const step = fc.record({ rebase: fc.boolean(), complete: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1, max: 3 }), (steps, limit) => {
      const retained = new RetainedCheckpoints(limit);
      const onDisk = new Set<string>();
      let chain: string[] = [];
      for (const [index, { rebase, complete }] of steps.entries()) {
        const path = `f${index}`;
        onDisk.add(path);
        chain = rebase ? [path] : [...chain, path];
        const manifest = manifestOf(index + 1, ...chain);
        retained.written(index + 1, filesOf(manifest));
        if (!complete) continue;
        for (const file of retained.completed(manifest).files) if (!onDisk.delete(file)) return false;
        const needed = new Set(retained.newestFirst.flatMap((kept) => filesOf(kept).map((file) => file.path)));
        if (![...needed].every((file) => onDisk.has(file)) || onDisk.size !== needed.size) return false;
      }
      return true;
    }),
  );
  t.pass();
});
