/**
 * Where a task stood in time at its last barrier, as rows of its snapshot. When rows of several former subtasks come
 * together in one, the least mark counts.
 */
import { NO_KEY_GROUP, type StateTable } from "../../state/state-rows.ts";
import type { Timestamp } from "../../time/timestamp.ts";

export class TaskMarks {
  readonly #table: StateTable;
  readonly #subtaskIndex: number;
  readonly #restored = new Map<string, Timestamp>();

  constructor(table: StateTable, subtaskIndex: number) {
    this.#table = table;
    this.#subtaskIndex = subtaskIndex;
    const others: string[] = [];
    for (const [key, value] of table.entries()) {
      const [subtask, name = ""] = key.slice(NO_KEY_GROUP.length).split("\n");
      if (subtask !== String(subtaskIndex)) others.push(key);
      const timestamp = new DataView(value.buffer, value.byteOffset).getFloat64(0) as Timestamp;
      const known = this.#restored.get(name);
      if (known === undefined || timestamp < known) this.#restored.set(name, timestamp);
    }
    if (others.length === 0) return;
    // Or the least of former subtasks would hold this one back for ever.
    for (const key of others) table.delete(key);
    for (const [name, timestamp] of this.#restored) this.set(name, timestamp);
  }

  /** What a restored task goes on from; undefined when it begins. */
  get(name: string): Timestamp | undefined {
    return this.#restored.get(name);
  }

  set(name: string, timestamp: Timestamp): void {
    const value = new Uint8Array(8);
    new DataView(value.buffer).setFloat64(0, timestamp);
    this.#table.put(`${NO_KEY_GROUP}${this.#subtaskIndex}\n${name}`, value);
  }
}
