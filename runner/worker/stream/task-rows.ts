/**
 * The rows of one streaming task together with their snapshots: restored from files when it starts, frozen at
 * barriers, written beside processing.
 *
 * Rows are in memory up to the task's share of the worker's budget, and in a SQLite file beyond it.
 */
import { crashPoint } from "../../base/crash-points.ts";
import { join } from "node:path";
import type { SnapshotFile, StreamTaskDeployment } from "../../../proto/gen/worker.ts";
import { restoreRows } from "../../state/keyed/restore-rows.ts";
import { SnapshotChain } from "../../state/keyed/snapshot-chain.ts";
import { SqliteRows } from "../../state/keyed/sqlite-rows.ts";
import { type KeyedInput, restoreFormer, snapshotFiles } from "./former-rows.ts";
import type { StateRows, StateTable } from "../../state/state-rows.ts";
import { SnapshotCopies } from "./snapshot-copies.ts";

export interface TaskRowsInit {
  readonly deployment: StreamTaskDeployment;
  readonly executionAttempt: number;
  /** Where snapshots go; empty: none are taken. */
  readonly checkpointDirectory: string;
  readonly spillDirectory: string;
  readonly memoryBytes: number;
  /** Of main input that must meet the state of its keys; undefined where any subtask may take any of it. */
  readonly keyedInput?: KeyedInput | undefined;
}

export class TaskRows implements StateRows {
  readonly #rows: SqliteRows;
  readonly #chain: SnapshotChain | undefined;

  private constructor(rows: SqliteRows, chain: SnapshotChain | undefined) {
    this.#rows = rows;
    this.#chain = chain;
  }

  /** @throws WeirError naming a snapshot file that is missing or damaged. */
  static async open(init: TaskRowsInit): Promise<TaskRows> {
    const { deployment, checkpointDirectory } = init;
    const label = `${deployment.vertexId}.${deployment.subtaskIndex}.${init.executionAttempt}`;
    const rows = new SqliteRows({
      directory: init.spillDirectory,
      label: `state-${label}`,
      memoryBytes: init.memoryBytes,
      tracksChanges: checkpointDirectory !== "",
    });
    try {
      const files = snapshotFiles(deployment.restore);
      const copies = new SnapshotCopies(join(init.spillDirectory, `snapshots-${label}`), checkpointDirectory);
      await copies.restoring(files, (local) =>
        restoreRows(rows, local, { firstKeyGroup: 0, endKeyGroup: 0xffff, takesUnkeyed: true, asChanges: false }),
      );
      if (deployment.former.length > 0) await restoreFormer(rows, copies, deployment, init.keyedInput);
      if (files.length > 0) crashPoint("during-restore");
      const chain =
        checkpointDirectory === ""
          ? undefined
          : new SnapshotChain({ rows, ...copies.chainPlace(), label, restoredFrom: files });
      return new TaskRows(rows, chain);
    } catch (failure) {
      rows.close();
      throw failure;
    }
  }

  table(name: string): StateTable {
    return this.#rows.table(name);
  }

  /** A promise to wait for before anything more is put in; undefined while there is room. */
  relief(): Promise<void> | undefined {
    return this.#rows.relief();
  }

  /** Freezes them now, in one step; resolves with what a restore needs, oldest first, when it is stored. */
  snapshot(checkpointId: number): Promise<readonly SnapshotFile[]> {
    if (this.#chain === undefined) return Promise.resolve([]);
    const pending = this.#chain.freeze(checkpointId);
    return pending.write().then((files) => files.map((file) => ({ ...file, byteLength: BigInt(file.byteLength) })));
  }

  /** Drops the file of cold rows; snapshots stay. Idempotent. */
  close(): Promise<void> {
    this.#rows.close();
    return Promise.resolve();
  }
}
