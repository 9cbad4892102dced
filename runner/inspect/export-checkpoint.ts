/** `weir checkpoint export`: every row of a checkpoint's tasks into one Arrow file. */
import type { SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import { type ExportedRecord, writeArrow } from "./arrow-file.ts";
import { StateRecords } from "./state-record.ts";
import { TaskState } from "./task-state.ts";

export interface ExportOptions {
  readonly path: string;
  readonly format: "file" | "stream";
  /** Rows that do not fit into memory. */
  readonly temporaryDirectory: string;
  /** Default: enough for most tasks. */
  readonly memoryBytes?: number;
}

/** @returns the number of rows. @throws WeirError naming the file that cannot be read or written. */
export function exportCheckpoint(manifest: SnapshotManifest, options: ExportOptions): Promise<number> {
  const metadata = {
    "weir.job_id": manifest.jobId,
    "weir.job_name": manifest.jobName,
    "weir.checkpoint_id": String(manifest.checkpointId),
    "weir.completed": new Date(manifest.completedMs).toISOString(),
    "weir.max_parallelism": String(manifest.maxParallelism),
  };
  return writeArrow(options.path, options.format, metadata, recordsOf(manifest, options));
}

async function* recordsOf(
  manifest: SnapshotManifest,
  { temporaryDirectory, memoryBytes }: ExportOptions,
): AsyncGenerator<ExportedRecord> {
  for (const task of manifest.tasks) {
    const { vertexId: vertex, subtaskIndex: subtask } = task;
    const records = new StateRecords(manifest, vertex);
    const state = await TaskState.open(task, temporaryDirectory, memoryBytes);
    try {
      for (const table of state.tables)
        for (const [key, value] of state.entries(table))
          yield { vertex, subtask, ...records.recordOf(table, key, value) };
    } finally {
      state.close();
    }
  }
}
