/**
 * The metrics of a streaming job: the sums over its tasks, each of which tells its own from time to time, all of them
 * since it began (a restored task goes on from its snapshot's).
 *
 * Committed ones are those of the current execution attempts; attempted ones count what earlier attempts did, too.
 * Summing up is not free, so it is done at most once in a while, and when the job asks for it.
 */
import type { TaskMetrics } from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import { type MonitoringInfoLimits, MonitoringInfoSet } from "../base/monitoring-infos.ts";
import type { JobObserver } from "./job-executor.ts";

const PUBLISH_INTERVAL_MS = 200;

interface TaskTold {
  readonly committed: MonitoringInfoSet;
  readonly attempted: MonitoringInfoSet;
}

export class StreamMetrics {
  readonly #observer: JobObserver;
  readonly #clock: Clock;
  readonly #limits: Partial<MonitoringInfoLimits>;
  /** By vertex and subtask. */
  readonly #tasks = new Map<string, Map<number, TaskTold>>();
  /** Of attempts that are over. */
  readonly #earlier: MonitoringInfoSet;
  /** By vertex. */
  readonly #attempts = new Map<string, number>();
  #publishedMs = -Infinity;
  #dirty = false;

  /** @param maxBytes of each sum */
  constructor(observer: JobObserver, clock: Clock, maxBytes?: number) {
    this.#limits = maxBytes === undefined ? {} : { maxBytes };
    this.#earlier = new MonitoringInfoSet(this.#limits);
    this.#observer = observer;
    this.#clock = clock;
  }

  /** The tasks of these vertices begin an execution attempt; messages of others of theirs are dropped. */
  begin(vertexIds: Iterable<string>, executionAttempt: number): void {
    for (const vertexId of vertexIds) {
      this.#attempts.set(vertexId, executionAttempt);
      const tasks = this.#tasks.get(vertexId)?.values() ?? [];
      for (const { attempted } of tasks) this.#earlier.mergeAll(attempted);
      this.#tasks.delete(vertexId);
    }
  }

  /** `taskAttemptId` is VERTEX.SUBTASK.EXECUTION_ATTEMPT. */
  told(metrics: TaskMetrics): void {
    const match = /^(.+)\.(\d+)\.(\d+)$/.exec(metrics.taskAttemptId);
    const vertexId = match?.[1] ?? "";
    if (match === null || Number(match[3]) !== this.#attempts.get(vertexId)) return;
    const decoded = (infos: readonly Uint8Array[]) => {
      const set = new MonitoringInfoSet(this.#limits);
      for (const info of infos) set.mergeEncoded(info);
      return set;
    };
    const tasks = this.#tasks.get(vertexId) ?? new Map<number, TaskTold>();
    tasks.set(Number(match[2]), { committed: decoded(metrics.committed), attempted: decoded(metrics.attempted) });
    this.#tasks.set(vertexId, tasks);
    this.#dirty = true;
    if (this.#clock.monotonicMs() - this.#publishedMs >= PUBLISH_INTERVAL_MS) this.publish();
  }

  /** Tells the observer what was not told yet. */
  publish(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    this.#publishedMs = this.#clock.monotonicMs();
    const attempted = new MonitoringInfoSet(this.#limits);
    const committed = new MonitoringInfoSet(this.#limits);
    attempted.mergeAll(this.#earlier);
    for (const tasks of this.#tasks.values())
      for (const task of tasks.values()) {
        attempted.mergeAll(task.attempted);
        committed.mergeAll(task.committed);
      }
    this.#observer.metrics(attempted.encoded(), committed.encoded());
  }
}
