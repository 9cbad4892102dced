/**
 * Restores a task from snapshots whose chain it does not continue: of former subtasks, when the parallelism of its
 * vertex has changed, or of another job.
 *
 * Rows of keys go by key group. Of rows of no key, table by table:
 *   task          all of them; TaskMarks takes the least of each mark
 *   residuals     divided: in the order of their keys, in turn
 *   metrics       divided likewise; another job's are left behind
 *   pushed-back, stable-input   divided likewise, or, where a key's input must meet its state, element by element
 *   side-inputs   those of one former subtask, which had all of them: the one whose main watermark is the least, since
 *                 others may have dropped windows that it still needs
 *   grouping      the least output watermark
 * Others cannot be divided: in-flight data, and what belongs to vertices of one subtask.
 *
 * Invariant: over all subtasks every residual and every waiting element is restored exactly once.
 */
import type { FormerSubtask, SnapshotFile, StreamTaskDeployment } from "../../../proto/gen/worker.ts";
import { WeirError } from "../../base/errors.ts";
import { hashBytes, keyGroupOf, partitionOf } from "../../coders/key-group.ts";
import { KeyedLayout, newKeyedPositions } from "../../coders/key-slice.ts";
import type { ExecutionGraph } from "../../graph/execution-graph.ts";
import { restoreRows, type RestoredRows } from "../../state/keyed/restore-rows.ts";
import type { SnapshotFileInfo } from "../../state/keyed/snapshot-file.ts";
import type { SqliteRows } from "../../state/keyed/sqlite-rows.ts";
import { NO_KEY_GROUP } from "../../state/state-rows.ts";
import { chunkOfRow, rowOfChunk } from "./pushed-back-input.ts";
import type { SnapshotCopies } from "./snapshot-copies.ts";

/** Main input that has to be where its key's state is. */
export interface KeyedInput {
  readonly layout: KeyedLayout;
  readonly maxParallelism: number;
}

/** Undefined for a vertex whose stage keeps nothing by key. */
export function keyedInputOf(graph: ExecutionGraph, vertexId: string, maxParallelism: number): KeyedInput | undefined {
  const stage = graph.vertices.find(({ id }) => id === vertexId)?.stage;
  if (stage === undefined || (stage.userStates.length === 0 && stage.timers.length === 0)) return undefined;
  return { layout: new KeyedLayout(graph.coders, stage.inputCoderId), maxParallelism };
}

export function snapshotFiles(files: readonly SnapshotFile[]): SnapshotFileInfo[] {
  return files.map(({ byteLength, ...file }) => ({ ...file, byteLength: Number(byteLength) }));
}

/** Begins the names of tables of in-flight data. */
const IN_FLIGHT = "in-flight-";
const METRICS = "metrics";
const DIVIDED = ["residuals", METRICS];
const WAITING_INPUT = ["pushed-back", "stable-input"];
const SHARED = "side-inputs";
const LEAST = "grouping";
const MARKS = "task";

/** @throws WeirError naming a file that is missing or damaged, or a table that cannot be divided. */
export async function restoreFormer(
  rows: SqliteRows,
  copies: SnapshotCopies,
  deployment: StreamTaskDeployment,
  keyedInput: KeyedInput | undefined,
): Promise<void> {
  const { former, parallelism, subtaskIndex, formerParallelism } = deployment;
  const gathered = new GatheredRows(rows, deployment);
  for (const subtask of former) {
    gathered.begin();
    await copies.restoring(snapshotFiles(subtask.files), (local) => restoreRows(gathered, local, partOf(subtask)));
    gathered.end();
  }
  gathered.finish();
  if (formerParallelism === parallelism) return;
  for (const table of DIVIDED) divideInTurn(rows, table, subtaskIndex, parallelism);
  for (const table of WAITING_INPUT)
    if (keyedInput === undefined) divideInTurn(rows, table, subtaskIndex, parallelism);
    else divideByKey(rows, table, deployment, keyedInput);
}

function partOf({ firstKeyGroup, endKeyGroup }: FormerSubtask) {
  return { firstKeyGroup, endKeyGroup, takesUnkeyed: true, asChanges: true };
}

/** Takes the rows of one former subtask after the other. */
class GatheredRows implements RestoredRows {
  readonly #rows: SqliteRows;
  readonly #isDivided: boolean;
  readonly #renamed: ReadonlyMap<string, string>;
  /** Of the former subtask that is being read. */
  #shared = new Map<string, Uint8Array>();
  #own = new Map<string, Uint8Array>();
  readonly #put = new Set<string>();
  #mainMark = -Infinity;
  /** Of all that were read. */
  #chosen: { readonly mainMark: number; readonly rows: ReadonlyMap<string, Uint8Array> } | undefined;
  readonly #least = new Map<string, Uint8Array>();

  constructor(rows: SqliteRows, { parallelism, formerParallelism, renamed }: StreamTaskDeployment) {
    this.#rows = rows;
    this.#isDivided = formerParallelism !== parallelism;
    this.#renamed = new Map(renamed.map(({ formerId, id }) => [formerId, id]));
  }

  relief(): Promise<void> | undefined {
    return this.#rows.relief();
  }

  begin(): void {
    this.#shared = new Map();
    this.#own = new Map();
    this.#put.clear();
    this.#mainMark = -Infinity;
  }

  restoreRow(formerTable: string, formerKey: string, value: Uint8Array | undefined): void {
    if (formerTable === METRICS && this.#renamed.size > 0) return;
    const table = this.#tableOf(formerTable);
    const key = table === "timers" ? this.#timerKeyOf(formerKey) : formerKey;
    if (!key.startsWith(NO_KEY_GROUP) || !this.#isDivided) {
      this.#rows.restoreRow(table, key, value, true);
      return;
    }
    if (table === SHARED || table === LEAST) {
      const into = table === SHARED ? this.#shared : this.#own;
      if (value === undefined) into.delete(key);
      else into.set(key, value);
      return;
    }
    if (table === MARKS && key.endsWith("\nmain") && value !== undefined) this.#mainMark = float64Of(value);
    if (table.startsWith(IN_FLIGHT)) throw inFlightRows();
    if (table !== MARKS && !DIVIDED.includes(table) && !WAITING_INPUT.includes(table))
      throw new WeirError({
        code: "FAILED_PRECONDITION",
        domain: "user",
        message: `The snapshot has rows of "${table}", which cannot be divided among another number of subtasks.`,
        hint: "Restore it at the parallelism at which it was taken.",
      });
    // What one former subtask has deleted may have been given to another, whose row it is now.
    const id = `${table}\n${key}`;
    if (value !== undefined) this.#put.add(id);
    else if (!this.#put.delete(id)) return;
    this.#rows.restoreRow(table, key, value, true);
  }

  /** The former subtask's files are read. */
  end(): void {
    if (!this.#isDivided) return;
    if (this.#chosen === undefined || this.#mainMark < this.#chosen.mainMark)
      this.#chosen = { mainMark: this.#mainMark, rows: this.#shared };
    for (const [key, value] of this.#own) {
      const known = this.#least.get(key);
      if (known === undefined || float64Of(value) < float64Of(known)) this.#least.set(key, value);
    }
  }

  finish(): void {
    for (const [key, value] of this.#chosen?.rows ?? []) this.#rows.restoreRow(SHARED, key, value, true);
    for (const [key, value] of this.#least) this.#rows.restoreRow(LEAST, key, value, true);
  }

  #tableOf(table: string): string {
    if (this.#renamed.size === 0 || !table.startsWith("user-state/")) return table;
    for (const [formerId, id] of this.#renamed) {
      const prefix = `user-state/${formerId}/`;
      if (table.startsWith(prefix)) return `user-state/${id}/${table.slice(prefix.length)}`;
    }
    return table;
  }

  /** Key group, then the transform's id as prefixed bytes. */
  #timerKeyOf(key: string): string {
    if (this.#renamed.size === 0 || key.startsWith(NO_KEY_GROUP)) return key;
    for (const [formerId, id] of this.#renamed) {
      const prefix = prefixed(formerId);
      if (key.startsWith(prefix, 2)) return key.slice(0, 2) + prefixed(id) + key.slice(2 + prefix.length);
    }
    return key;
  }
}

function inFlightRows(): WeirError {
  return new WeirError({
    code: "FAILED_PRECONDITION",
    domain: "user",
    message:
      "The snapshot is an unaligned checkpoint: data that was on its way cannot be divided among other subtasks.",
    hint: "Set --parallelism to what it was, or go on from a savepoint, which holds no such data.",
  });
}

function prefixed(text: string): string {
  const bytes = Buffer.from(text, "utf8");
  let length = "";
  let rest = bytes.length;
  for (; rest >= 0x80; rest >>>= 7) length += String.fromCharCode((rest & 0x7f) | 0x80);
  return length + String.fromCharCode(rest) + bytes.toString("latin1");
}

function float64Of(value: Uint8Array): number {
  return new DataView(value.buffer, value.byteOffset).getFloat64(0);
}

/** All subtasks have read the same rows: each keeps those whose turn is its own. */
function divideInTurn(rows: SqliteRows, name: string, subtaskIndex: number, parallelism: number): void {
  const table = rows.table(name);
  const keys = [...table.entries()].map(([key]) => key).sort();
  for (const [index, key] of keys.entries()) if (index % parallelism !== subtaskIndex) table.delete(key);
}

/** Of each chunk a subtask keeps its keys' elements, in a row of its own: rows may come together again. */
function divideByKey(
  rows: SqliteRows,
  name: string,
  { subtaskIndex, parallelism }: StreamTaskDeployment,
  { layout, maxParallelism }: KeyedInput,
): void {
  const table = rows.table(name);
  const positions = newKeyedPositions();
  for (const [key, row] of [...table.entries()]) {
    const { chunk, hold } = chunkOfRow(row);
    const { data } = chunk;
    const kept: Uint8Array[] = [];
    for (let start = 0, end = 0; start < data.length; start = end) {
      end = layout.read(data, start, positions);
      const keyGroup = keyGroupOf(hashBytes(data, positions.header.valueStart, positions.keyEnd), maxParallelism);
      if (partitionOf(keyGroup, maxParallelism, parallelism) === subtaskIndex) kept.push(data.subarray(start, end));
    }
    table.delete(key);
    if (kept.length > 0)
      table.put(`${key}/${subtaskIndex}`, rowOfChunk({ data: Buffer.concat(kept), elementCount: kept.length }, hold));
  }
}
