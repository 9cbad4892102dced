/** Reads the manifest of a checkpoint to go back to. A store that cannot be reached is waited for, within bounds. */
import { WeirError } from "../base/errors.ts";
import type { SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import type { CheckpointCoordinatorInit } from "./checkpoint-coordinator-init.ts";

/** Between two attempts to read from a store that could not be reached. */
const STORE_WAIT_MS = 5_000;

type StoreInit = Pick<CheckpointCoordinatorInit, "directory" | "observer" | "clock" | "settings">;

/**
 * @throws WeirError UNAVAILABLE when the store is not there in the time that a checkpoint may take; others as
 * CheckpointDirectory's `read` and `verify`.
 */
export function readWhole(init: StoreInit, checkpointId: number): Promise<SnapshotManifest> {
  return waitingForStore(init, async () => {
    const manifest = await init.directory.read(checkpointId);
    await init.directory.verify(manifest);
    return manifest;
  });
}

/** Tries for as long as a checkpoint may take: the job has nothing else to go on from. @throws what `use` does */
export async function waitingForStore<Result>(
  { observer, clock, settings }: StoreInit,
  use: () => Promise<Result>,
): Promise<Result> {
  const untilMs = clock.nowMs() + settings.timeoutMs;
  for (;;) {
    try {
      return await use();
    } catch (thrown) {
      const { code, message } = WeirError.from(thrown);
      if (code !== "UNAVAILABLE" || clock.nowMs() >= untilMs) throw thrown;
      observer.message("WARNING", `The job waits for its checkpoints: ${message}`);
      await clock.sleep(STORE_WAIT_MS);
    }
  }
}
