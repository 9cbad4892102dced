/** Reads the manifest of a checkpoint to go back to. A store that cannot be reached is waited for, within bounds. */
import { WeirError } from "../base/errors.ts";
import type { SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import type { CheckpointCoordinatorInit } from "./checkpoint-coordinator.ts";

/** Between two attempts to read from a store that could not be reached. */
const STORE_WAIT_MS = 5_000;

/**
 * Waits as long as a checkpoint may take: the job has nothing else to go on from.
 * @throws WeirError UNAVAILABLE when the store is not there by then; others as CheckpointDirectory's `read` and `verify`.
 */
export async function readWhole(
  {
    directory,
    observer,
    clock,
    settings,
  }: Pick<CheckpointCoordinatorInit, "directory" | "observer" | "clock" | "settings">,
  checkpointId: number,
): Promise<SnapshotManifest> {
  const untilMs = clock.nowMs() + settings.timeoutMs;
  for (;;) {
    try {
      const manifest = await directory.read(checkpointId);
      await directory.verify(manifest);
      return manifest;
    } catch (thrown) {
      const { code, message } = WeirError.from(thrown);
      if (code !== "UNAVAILABLE" || clock.nowMs() >= untilMs) throw thrown;
      observer.message("WARNING", `The job waits for its checkpoints: ${message}`);
      await clock.sleep(STORE_WAIT_MS);
    }
  }
}
