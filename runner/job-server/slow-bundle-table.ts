/**
 * The bundles of a job that stand still or run for very long, as its workers tell of them: `weir explain` shows them,
 * and those that do not end become job messages, again each time when they have run for twice as long.
 *
 * Bounded: beyond MAX_BUNDLES no more are kept, since the first ones say enough.
 */
import type { SlowBundle as SlowBundleMessage, WorkerMessage } from "../../proto/gen/worker.ts";
import type { WorkerId } from "../base/ids.ts";
import type { JobObserver, JobRun, SlowBundle } from "./job-executor.ts";
import type { RegisteredWorker, WorkerListener } from "./worker-registry.ts";

interface Entry {
  readonly workerId: WorkerId;
  bundle: SlowBundle;
  /** A message comes when it has stood still, or run, for so long. */
  quietMessageMs: number;
  ageMessageMs: number;
}

const MAX_BUNDLES = 64;

export class SlowBundleTable implements WorkerListener {
  readonly #run: JobRun;
  readonly #observer: Pick<JobObserver, "message">;
  readonly #stuckAfterMs: number;
  readonly #entries = new Map<string, Entry>();

  /** @param stuckAfterMs after which a message tells of a bundle */
  constructor(run: JobRun, observer: Pick<JobObserver, "message">, stuckAfterMs: number) {
    this.#run = run;
    this.#observer = observer;
    this.#stuckAfterMs = stuckAfterMs;
  }

  get bundles(): readonly SlowBundle[] {
    return [...this.#entries.values()].map(({ bundle }) => bundle);
  }

  workerJoined(): void {
    // It has no bundle yet.
  }

  workerLost({ workerId }: RegisteredWorker): void {
    for (const [bundleId, entry] of this.#entries) if (entry.workerId === workerId) this.#entries.delete(bundleId);
  }

  workerMessage({ workerId }: RegisteredWorker, message: NonNullable<WorkerMessage["message"]>): void {
    if (message.$case === "slowBundle" && message.value.jobId === this.#run.jobId) this.#told(workerId, message.value);
  }

  #told(workerId: WorkerId, { vertexId, bundleId, harnessId, ageMs, quietMs, stacks, ended }: SlowBundleMessage): void {
    if (ended) {
      this.#entries.delete(bundleId);
      return;
    }
    const bundle = { vertexId, bundleId, harnessId, ageMs: Number(ageMs), quietMs: Number(quietMs), stacks };
    let entry = this.#entries.get(bundleId);
    if (entry === undefined) {
      if (this.#entries.size >= MAX_BUNDLES) return;
      entry = { workerId, bundle, quietMessageMs: this.#stuckAfterMs, ageMessageMs: this.#stuckAfterMs };
      this.#entries.set(bundleId, entry);
    }
    entry.bundle = bundle;
    const name = this.#run.graph.vertices.find(({ id }) => id === vertexId)?.name ?? vertexId;
    const which = `bundle ${bundleId} on SDK harness ${harnessId}`;
    if (bundle.quietMs >= entry.quietMessageMs) {
      entry.quietMessageMs = bundle.quietMs * 2;
      const text = `A bundle of ${name} has made no progress for ${seconds(bundle.quietMs)} (${which}).`;
      this.#observer.message("WARNING", `${text}\n${stacks}`);
    } else if (bundle.ageMs >= entry.ageMessageMs && bundle.quietMs < bundle.ageMs / 2) {
      // It may well have much to do.
      entry.ageMessageMs = bundle.ageMs * 2;
      const text = `A bundle of ${name} has run for ${seconds(bundle.ageMs)} and made progress ${seconds(bundle.quietMs)} ago (${which}).`;
      this.#observer.message("BASIC", `${text}\n${stacks}`);
    }
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
