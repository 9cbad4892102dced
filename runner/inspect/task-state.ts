/**
 * The rows of one task as a restore would have them: a base and its deltas, put together. They may be larger than
 * memory: beyond a budget they are in a temporary file, as in a running task.
 */
import type { ManifestTask } from "../checkpoint/snapshot-manifest.ts";
import { restoreRows } from "../state/keyed/restore-rows.ts";
import { withLocalCopy } from "../storage/local-copy.ts";
import { SqliteRows } from "../state/keyed/sqlite-rows.ts";

const MEMORY_BYTES = 64 * 1024 * 1024;
const ALL = { firstKeyGroup: 0, endKeyGroup: 0xffff, takesUnkeyed: true, asChanges: false };

export class TaskState {
  readonly #rows: SqliteRows;

  private constructor(rows: SqliteRows) {
    this.#rows = rows;
  }

  /** @throws WeirError naming the file that is missing or damaged. */
  static async open(
    { vertexId, subtaskIndex, files }: ManifestTask,
    temporaryDirectory: string,
    memoryBytes = MEMORY_BYTES,
  ): Promise<TaskState> {
    const label = `${vertexId}.${subtaskIndex}`;
    const rows = new SqliteRows({ directory: temporaryDirectory, label, memoryBytes, tracksChanges: false });
    try {
      for (const file of files)
        await withLocalCopy(file.path, temporaryDirectory, (path) => restoreRows(rows, [{ ...file, path }], ALL));
      return new TaskState(rows);
    } catch (failure) {
      rows.close();
      throw failure;
    }
  }

  /** Names of tables that have rows, or had some. */
  get tables(): readonly string[] {
    return this.#rows.tableNames;
  }

  /** In no order. */
  entries(table: string): Iterable<readonly [key: string, value: Uint8Array]> {
    return this.#rows.table(table).entries();
  }

  /** Idempotent. */
  close(): void {
    this.#rows.close();
  }
}
