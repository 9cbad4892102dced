/**
 * The metrics of a blocking job: committed ones are those of finished attempts that were not taken back, attempted
 * ones those of everything that ever ran or runs now, of each attempt what it told last.
 *
 * Summing up is not free: totals are kept running, made anew only when an attempt is taken back, and told at most once
 * in a while, and when the job asks for it.
 */
import type { TaskMetrics } from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import type { TaskAttemptId } from "../base/ids.ts";
import { type MonitoringInfoLimits, MonitoringInfoSet } from "../base/monitoring-infos.ts";
import type { JobObserver } from "./job-executor.ts";

const PUBLISH_INTERVAL_MS = 200;

export class BlockingMetrics {
  readonly #observer: Pick<JobObserver, "metrics">;
  readonly #clock: Clock;
  readonly #limits: Partial<MonitoringInfoLimits>;
  /** Of attempts that may still tell more. */
  readonly #running = new Map<TaskAttemptId, TaskMetrics>();
  /** Of attempts that have ended. */
  readonly #attempted: MonitoringInfoSet;
  /** Of attempts that count, kept for the day when one of them is taken back. */
  readonly #committedBy = new Map<TaskAttemptId, MonitoringInfoSet>();
  /** Their sum; undefined: it has to be made anew. */
  #committed: MonitoringInfoSet | undefined;
  #publishedMs = -Infinity;
  #isDirty = false;

  /** @param maxBytes of each sum */
  constructor(observer: Pick<JobObserver, "metrics">, clock: Clock, maxBytes?: number) {
    this.#limits = maxBytes === undefined ? {} : { maxBytes };
    this.#attempted = new MonitoringInfoSet(this.#limits);
    this.#committed = new MonitoringInfoSet(this.#limits);
    this.#observer = observer;
    this.#clock = clock;
  }

  /** An attempt's metrics so far. A worker sends the last ones before it tells of the attempt's end. */
  told(metrics: TaskMetrics): void {
    this.#running.set(metrics.taskAttemptId as TaskAttemptId, metrics);
    this.#changed();
  }

  /** The attempt tells no more. @param counts it has finished, and nothing else did its work */
  ended(attemptId: TaskAttemptId, counts: boolean): void {
    const last = this.#running.get(attemptId);
    if (last === undefined) return;
    this.#running.delete(attemptId);
    for (const info of last.attempted) this.#attempted.mergeEncoded(info);
    if (!counts) return;
    const committed = new MonitoringInfoSet(this.#limits);
    for (const info of last.committed) committed.mergeEncoded(info);
    this.#committedBy.set(attemptId, committed);
    this.#committed?.mergeAll(committed);
    this.#changed();
  }

  /** These attempts do not count any more. */
  takenBack(attemptIds: readonly TaskAttemptId[]): void {
    for (const attemptId of attemptIds) {
      if (!this.#committedBy.delete(attemptId)) continue;
      this.#committed = undefined;
      this.#changed();
    }
  }

  #changed(): void {
    this.#isDirty = true;
    if (this.#clock.monotonicMs() - this.#publishedMs >= PUBLISH_INTERVAL_MS) this.publish();
  }

  /** Tells the observer what was not told yet. */
  publish(): void {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    this.#publishedMs = this.#clock.monotonicMs();
    if (this.#committed === undefined) {
      this.#committed = new MonitoringInfoSet(this.#limits);
      for (const committed of this.#committedBy.values()) this.#committed.mergeAll(committed);
    }
    let attempted = this.#attempted;
    if (this.#running.size > 0) {
      attempted = new MonitoringInfoSet(this.#limits);
      attempted.mergeAll(this.#attempted);
      for (const running of this.#running.values()) for (const info of running.attempted) attempted.mergeEncoded(info);
    }
    this.#observer.metrics(attempted.encoded(), this.#committed.encoded());
  }
}
