/** Reads the manifests that an earlier job server of a job has left. */
import { WeirError } from "../base/errors.ts";
import type { CheckpointDirectory } from "./checkpoint-directory.ts";
import type { SnapshotManifest } from "./snapshot-manifest.ts";

export interface FoundManifests {
  /** The newest last. A later server's are newer than an earlier one's, whatever their ids. */
  readonly manifests: readonly SnapshotManifest[];
  /** Messages about those that cannot be read. */
  readonly damaged: readonly string[];
}

/** @throws WeirError UNAVAILABLE when the store cannot be reached: nothing is known of them then. */
export async function readManifests(
  directory: CheckpointDirectory,
  checkpointIds: readonly number[],
): Promise<FoundManifests> {
  const manifests: SnapshotManifest[] = [];
  const damaged: string[] = [];
  for (const checkpointId of checkpointIds) {
    try {
      manifests.push(await directory.read(checkpointId));
    } catch (thrown) {
      const { code, message } = WeirError.from(thrown);
      if (code === "UNAVAILABLE") throw thrown;
      damaged.push(`Checkpoint ${checkpointId} cannot be gone back to: ${message}`);
    }
  }
  manifests.sort((one, other) => epochOf(one) - epochOf(other) || one.checkpointId - other.checkpointId);
  return { manifests, damaged };
}

function epochOf({ leaderEpoch = 1 }: SnapshotManifest): number {
  return leaderEpoch;
}
