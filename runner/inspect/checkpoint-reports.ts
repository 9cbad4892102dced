/** What `weir checkpoint ls`, `show` and `verify` say, line by line. */
import { WeirError } from "../base/errors.ts";
import { recordLines } from "../checkpoint/record-lines.ts";
import { filesOf, type SnapshotFileRef, type SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import { withLocalCopy } from "../storage/local-copy.ts";
import { readSnapshotFile } from "../state/keyed/snapshot-file.ts";
import type { CheckpointSource } from "./checkpoint-source.ts";
import { StateRecords } from "./state-record.ts";
import { TaskState } from "./task-state.ts";

/** As SnapshotChain names its files. */
const FILE_NAME = /-(\d+)\.(base|delta|in-flight)$/;

/** One line for each complete checkpoint, oldest first; one that cannot be read says why. */
export async function* listCheckpoints(source: CheckpointSource): AsyncGenerator<string> {
  const rows = [["ID", "COMPLETED", "DURATION", "TASKS", "FILES", "BYTES", "WRITTEN", "NEW FILES", "WARNINGS"]];
  const broken: string[] = [];
  for (const id of source.ids)
    try {
      rows.push(columnsOf(await source.manifest(id)));
    } catch (thrown) {
      broken.push(`${id}  ${problemIn(thrown)}`);
    }
  yield `${source.path}`;
  yield* table(rows);
  yield* broken;
}

function columnsOf(manifest: SnapshotManifest): string[] {
  const { checkpointId, tasks, triggeredMs, completedMs, record } = manifest;
  const files = filesOf(manifest);
  const own = files.filter(({ path }) => Number(FILE_NAME.exec(path)?.[1]) === checkpointId);
  const kinds = ["base", "delta", "in-flight"].flatMap((kind) => {
    const count = own.filter(({ path }) => path.endsWith(`.${kind}`)).length;
    return count === 0 ? [] : `${count} ${kind}`;
  });
  return [
    String(checkpointId),
    new Date(completedMs).toISOString(),
    `${Math.round(completedMs - triggeredMs)} ms`,
    String(tasks.length),
    String(files.length),
    String(byteLengthOf(files)),
    String(byteLengthOf(own)),
    kinds.join(", ") || "none",
    String(record?.warnings.length ?? 0),
  ];
}

/** A checkpoint in full: each task, its files, its tables and where it stood in time. */
export async function* showCheckpoint(
  source: CheckpointSource,
  manifest: SnapshotManifest,
  temporaryDirectory: string,
): AsyncGenerator<string> {
  const { checkpointId, jobId, jobName, executionAttempt, triggeredMs, completedMs, record } = manifest;
  yield `checkpoint ${checkpointId} of job ${jobId} (${jobName}), attempt ${executionAttempt}`;
  yield `  manifest    ${source.manifestPath(checkpointId)}`;
  yield `  completed   ${new Date(completedMs).toISOString()}, after ${Math.round(completedMs - triggeredMs)} ms`;
  yield `  key groups  ${manifest.maxParallelism}`;
  yield `  plan        ${manifest.graphFingerprint}`;
  if (record !== undefined) {
    for (const line of recordLines(record)) yield `  ${line}`;
    for (const warning of record.warnings) yield `  warning     ${warning}`;
  }
  for (const task of manifest.tasks) {
    const { vertexId, subtaskIndex, parallelism, files } = task;
    const transforms = new Set(
      (manifest.tables ?? []).filter((each) => each.vertexId === vertexId).map(({ transform }) => transform),
    );
    const names = transforms.size === 0 ? "" : ` (${[...transforms].join(", ")})`;
    yield "";
    yield `task ${vertexId}.${subtaskIndex} of ${parallelism}${names}`;
    for (const { path, byteLength } of files)
      yield `  file   ${path.startsWith(source.path) ? path.slice(source.path.length + 1) : path}  ${byteLength} bytes`;
    const state = await TaskState.open(task, temporaryDirectory);
    try {
      yield* tablesOf(state, new StateRecords(manifest, vertexId));
    } finally {
      state.close();
    }
  }
}

function* tablesOf(state: TaskState, records: StateRecords): Iterable<string> {
  for (const name of [...state.tables].sort()) {
    let rows = 0;
    let bytes = 0;
    const marks: string[] = [];
    for (const [key, value] of state.entries(name)) {
      rows++;
      bytes += key.length + value.length;
      if (name === "task") {
        const { decodedKey, decodedValue } = records.recordOf(name, key, value);
        marks.push(`${decodedKey} ${beamTime(decodedValue ?? "")}`);
      }
    }
    if (rows === 0) continue;
    yield name === "task" ? `  marks  ${marks.sort().join(", ")}` : `  table  ${name}  ${rows} rows, ${bytes} bytes`;
  }
}

/** Beam's extremes lie beyond what ISO times can say. */
function beamTime(text: string): string {
  if (/^-\d/.test(text)) return "-∞";
  return /^\d+$/.test(text) ? "+∞" : text;
}

/** What is wrong with checkpoints: a file that many of them need is named once. */
export async function verifyCheckpoints(
  source: CheckpointSource,
  ids: readonly number[],
  temporaryDirectory: string,
  print: (line: string) => void,
): Promise<{ readonly damaged: number }> {
  const problems = new Map<string, string | undefined>();
  let damaged = 0;
  for (const id of ids) {
    let rowCount = 0;
    const found = new Set<string>();
    let files: readonly SnapshotFileRef[] = [];
    try {
      files = filesOf(await source.manifest(id));
    } catch (thrown) {
      found.add(problemIn(thrown));
    }
    const onRows = (count: number) => (rowCount += count);
    for (const file of files) {
      if (!problems.has(file.path)) problems.set(file.path, await problemOf(file, temporaryDirectory, onRows));
      const problem = problems.get(file.path);
      if (problem !== undefined) found.add(problem);
    }
    if (found.size > 0 && !(await source.has(id))) {
      print(`checkpoint ${id}: the job has deleted it meanwhile`);
      continue;
    }
    if (found.size > 0) damaged++;
    for (const problem of found) print(`checkpoint ${id}: ${problem}`);
    if (found.size === 0)
      print(`checkpoint ${id}: whole (${files.length} files, ${byteLengthOf(files)} bytes, ${rowCount} rows read now)`);
  }
  return { damaged };
}

/** Reads a file to its end: its length, the checksum of every block, every record, its SHA-256. */
async function problemOf(
  { path: location, byteLength, sha256 }: SnapshotFileRef,
  temporaryDirectory: string,
  onRows: (count: number) => void,
): Promise<string | undefined> {
  try {
    await withLocalCopy(location, temporaryDirectory, async (path) => {
      for await (const rows of readSnapshotFile(path, { byteLength, sha256 })) onRows([...rows].length);
    });
    return undefined;
  } catch (thrown) {
    return problemIn(thrown);
  }
}

/** That a store does not answer says nothing of what is in it. @throws what is of that kind */
function problemIn(thrown: unknown): string {
  const { code, message } = WeirError.from(thrown);
  if (code === "UNAVAILABLE") throw thrown;
  return message;
}

function byteLengthOf(files: readonly SnapshotFileRef[]): number {
  return files.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

function* table(rows: readonly (readonly string[])[]): Iterable<string> {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of rows)
    yield row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
}
