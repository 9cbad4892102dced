/**
 * Puts the rows of snapshot files back, those that a subtask owns: at another parallelism a file's rows go to several
 * subtasks, and a subtask reads the files of several.
 */
import { NO_KEY_GROUP } from "../state-rows.ts";
import { nextTurn } from "./next-turn.ts";
import { readSnapshotFile, type SnapshotFileInfo } from "./snapshot-file.ts";
import type { SqliteRows } from "./sqlite-rows.ts";

/** Where the rows go. */
export type RestoredRows = Pick<SqliteRows, "restoreRow" | "relief">;

export interface RestoredPart {
  /** Key groups [first, end) are taken. */
  readonly firstKeyGroup: number;
  readonly endKeyGroup: number;
  /** Rows that are no key's. Of several former subtasks' files they may have the same keys: the later file's stays. */
  readonly takesUnkeyed: boolean;
  /**
   * True where the files will not be part of the task's own chain: the rows are changes then, and the next delta is a
   * base. It must be true when the parallelism has changed: the files hold other subtasks' rows too.
   */
  readonly asChanges: boolean;
}

/**
 * @param files of one former subtask, oldest first; call it once for each former subtask
 * @returns the number of rows put in or taken out again
 * @throws WeirError naming the file that is missing or damaged; the rows are of no use then
 */
export async function restoreRows(
  rows: RestoredRows,
  files: readonly SnapshotFileInfo[],
  part: RestoredPart,
): Promise<number> {
  let count = 0;
  for (const { path, byteLength, sha256 } of files)
    for await (const block of readSnapshotFile(path, { byteLength, sha256 })) {
      for (const { table, key, value } of block)
        if (isOf(part, key)) {
          rows.restoreRow(table, key, value, part.asChanges);
          count++;
        }
      await (rows.relief() ?? nextTurn());
    }
  return count;
}

function isOf(part: RestoredPart, key: string): boolean {
  if (key.startsWith(NO_KEY_GROUP)) return part.takesUnkeyed;
  const keyGroup = key.charCodeAt(0) * 256 + key.charCodeAt(1);
  return keyGroup >= part.firstKeyGroup && keyGroup < part.endKeyGroup;
}
