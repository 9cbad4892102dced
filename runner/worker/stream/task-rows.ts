/** The rows of one streaming task together with their snapshots. */
import type { SnapshotFile } from "../../../proto/gen/worker.ts";
import { MemoryRows, type StateRows } from "../../state/state-rows.ts";

export interface TaskRows extends StateRows {
  /** Freezes them now; resolves with what a restore needs, oldest first, when it is stored. */
  snapshot(checkpointId: number): Promise<readonly SnapshotFile[]>;
  close(): Promise<void>;
}

export class UnstoredRows extends MemoryRows implements TaskRows {
  snapshot(): Promise<readonly SnapshotFile[]> {
    return Promise.resolve([]);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
