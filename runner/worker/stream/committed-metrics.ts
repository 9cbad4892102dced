/**
 * The metrics of a task's committed bundles. They are part of its snapshot: a restored task goes on counting where its
 * snapshot stood, so that what is committed never falls back and counts nothing twice. Those of bundles that have
 * failed, or run, are attempted, and never in a row.
 *
 * One row of the table `metrics` for each subtask: a TaskMetrics message. When rows of several former subtasks come
 * together in one, they add up; each former row goes to one subtask.
 */
import { TaskMetrics } from "../../../proto/gen/worker.ts";
import { type MonitoringInfo, MonitoringInfoSet } from "../../base/monitoring-infos.ts";
import { NO_KEY_GROUP, type StateTable } from "../../state/state-rows.ts";

export class CommittedMetrics {
  readonly #table: StateTable;
  readonly #key: string;
  /** Of the snapshot that the task was restored from. */
  readonly #restored: MonitoringInfoSet;
  /** Since this execution attempt began. */
  readonly #own: MonitoringInfoSet;
  readonly #maxBytes: number;
  /** Of bundles that have failed. */
  readonly #failed: MonitoringInfoSet;
  /** Of the bundle that runs, as it told them last. */
  #running: readonly MonitoringInfo[] = [];
  #isDirty = false;

  /** @param maxBytes what does not fit is left out and counted */
  constructor(table: StateTable, subtaskIndex: number, maxBytes: number) {
    this.#table = table;
    this.#maxBytes = maxBytes;
    this.#restored = new MonitoringInfoSet({ maxBytes });
    this.#own = new MonitoringInfoSet({ maxBytes });
    this.#failed = new MonitoringInfoSet({ maxBytes });
    this.#key = `${NO_KEY_GROUP}${subtaskIndex}`;
    const others: string[] = [];
    for (const [key, row] of table.entries()) {
      if (key !== this.#key) others.push(key);
      for (const info of TaskMetrics.decode(row).committed) this.#restored.mergeEncoded(info);
    }
    for (const key of others) table.delete(key);
    this.#isDirty = others.length > 0;
  }

  merge(info: MonitoringInfo): void {
    this.#own.merge(info);
    this.#isDirty = true;
  }

  failed(infos: readonly MonitoringInfo[]): void {
    for (const info of infos) this.#failed.merge(info);
  }

  /** Takes the place of what was told before. */
  running(infos: readonly MonitoringInfo[]): void {
    this.#running = infos;
  }

  /** Encoded infos of this execution attempt alone, with those of bundles that have failed and of the one that runs. */
  attempted(): Uint8Array[] {
    if (this.#failed.size === 0 && this.#running.length === 0) return this.#own.encoded();
    const sum = new MonitoringInfoSet({ maxBytes: this.#maxBytes });
    sum.mergeAll(this.#own);
    sum.mergeAll(this.#failed);
    for (const info of this.#running) sum.merge(info);
    return sum.encoded();
  }

  /** Encoded infos of everything that is committed. */
  committed(): Uint8Array[] {
    if (this.#restored.size === 0) return this.#own.encoded();
    const sum = new MonitoringInfoSet({ maxBytes: this.#maxBytes });
    sum.mergeAll(this.#restored);
    sum.mergeAll(this.#own);
    return sum.encoded();
  }

  /** Before the rows are frozen: brings the row up to date. */
  flush(): void {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    const row = TaskMetrics.encode(TaskMetrics.fromPartial({ committed: this.committed() })).finish();
    this.#table.put(this.#key, row.slice());
  }
}
