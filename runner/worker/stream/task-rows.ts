/**
 * The rows of one streaming task together with their snapshots: restored from files when it starts, frozen at
 * barriers, written beside processing.
 *
 * Rows are in memory up to the task's share of the worker's budget, and in a SQLite file beyond it.
 */
import type { SnapshotFile, StreamTaskDeployment } from "../../../proto/gen/worker.ts";
import { crashPoint } from "../../base/crash-points.ts";
import type { Log } from "../../base/log.ts";
import { restoreRows } from "../../state/keyed/restore-rows.ts";
import { SnapshotChain } from "../../state/keyed/snapshot-chain.ts";
import { SqliteRows } from "../../state/keyed/sqlite-rows.ts";
import { type KeyedInput, restoreFormer, snapshotFiles } from "./former-rows.ts";
import type { ScratchSpace, StateRows, StateTable } from "../../state/state-rows.ts";
import type { LocalSnapshots } from "./local-snapshots.ts";
import { SnapshotCopies } from "./snapshot-copies.ts";
import type { SnapshotExtras } from "./stream-task-environment.ts";

export interface TaskRowsInit {
  readonly deployment: StreamTaskDeployment;
  readonly executionAttempt: number;
  /** Where snapshots go; empty: none are taken. */
  readonly checkpointDirectory: string;
  readonly spillDirectory: string;
  readonly localSnapshots: LocalSnapshots;
  readonly memoryBytes: number;
  /** Of main input that must meet the state of its keys; undefined where any subtask may take any of it. */
  readonly keyedInput?: KeyedInput | undefined;
  readonly log: Log;
}

/** What a bundle's writes may take of memory, beside the task's budget. */
const SCRATCH_FRACTION = 0.5;

export class TaskRows implements StateRows {
  readonly #rows: SqliteRows;
  readonly #chain: SnapshotChain | undefined;
  readonly #copies: SnapshotCopies;
  readonly scratch: ScratchSpace;

  private constructor(
    rows: SqliteRows,
    chain: SnapshotChain | undefined,
    copies: SnapshotCopies,
    scratch: ScratchSpace,
  ) {
    this.#rows = rows;
    this.scratch = scratch;
    this.#chain = chain;
    this.#copies = copies;
  }

  /** @throws WeirError naming a snapshot file that is missing or damaged. */
  static async open(init: TaskRowsInit): Promise<TaskRows> {
    const { deployment, checkpointDirectory } = init;
    const task = `${deployment.vertexId}.${deployment.subtaskIndex}.`;
    const label = `${task}${init.executionAttempt}`;
    const rows = new SqliteRows({
      directory: init.spillDirectory,
      label: `state-${label}`,
      memoryBytes: init.memoryBytes,
      tracksChanges: checkpointDirectory !== "",
    });
    try {
      const files = snapshotFiles(deployment.restore);
      const copies = new SnapshotCopies({ task, label, destination: checkpointDirectory, local: init.localSnapshots });
      await copies.restoringOwn(files, (local) =>
        restoreRows(rows, local, { firstKeyGroup: 0, endKeyGroup: 0xffff, takesUnkeyed: true, asChanges: false }),
      );
      if (deployment.former.length > 0) await restoreFormer(rows, copies, deployment, init.keyedInput);
      if (files.length > 0) {
        crashPoint("during-restore");
        init.log.info({ task: label, ...copies.counts }, "state is restored");
      }
      const chain =
        checkpointDirectory === ""
          ? undefined
          : new SnapshotChain({
              rows,
              ...copies.chainPlace(),
              label,
              restoredFrom: files.filter(({ inFlight }) => inFlight !== true),
            });
      const memoryBytes = Math.ceil(init.memoryBytes * SCRATCH_FRACTION);
      const scratch: ScratchSpace = {
        memoryBytes,
        open: () =>
          new SqliteRows({
            directory: init.spillDirectory,
            label: `writes-${label}`,
            memoryBytes,
            tracksChanges: false,
          }),
      };
      return new TaskRows(rows, chain, copies, scratch);
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

  /**
   * Freezes them now, in one step; resolves with what a restore needs, oldest first, when it is stored.
   */
  async snapshot(
    checkpointId: number,
    { inFlight, savepointPath }: SnapshotExtras = {},
  ): Promise<readonly SnapshotFile[]> {
    const chain = this.#chain;
    if (chain === undefined) return [];
    const [files, rows] = await Promise.all([chain.freeze(checkpointId).write(), inFlight]);
    const all = rows === undefined ? files : [...files, await chain.writeInFlight(checkpointId, rows)];
    if (savepointPath !== undefined) await this.#copies.toSavepoint(all, savepointPath);
    await this.#copies.written(all);
    return all.map(({ byteLength, inFlight: isInFlight = false, ...file }) => ({
      ...file,
      byteLength: BigInt(byteLength),
      inFlight: isInFlight,
    }));
  }

  /** Drops the file of cold rows; snapshots stay. Idempotent. */
  close(): Promise<void> {
    this.#copies.close();
    this.#rows.close();
    return Promise.resolve();
  }
}
