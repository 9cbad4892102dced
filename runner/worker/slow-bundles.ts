/**
 * Looks for bundles of this worker that stand still or run for very long, and tells the job server of them, with where
 * their harness says that they stand: `weir explain` shows it, and after a while a job message does.
 *
 * A bundle goes on when its SDK sends anything for it, or when its metrics change, save those of time. Only bundles
 * that are quiet are asked for metrics, one question at a time; a bundle that lasts less than a look costs nothing.
 */
import { createHash } from "node:crypto";
import type { MonitoringInfo } from "../../proto/gen/metrics.ts";
import type { SlowBundle } from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import type { HarnessId, JobId, VertexId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { WorkerStatusService } from "./fn-api/worker-status-service.ts";
import { statusExcerpt } from "./status-excerpt.ts";
import type { HarnessConnection, WatchedBundle } from "./task/harness-connection.ts";

const LOOK_INTERVAL_MS = 1_000;
/** How often a bundle that sends nothing is asked whether it goes on. */
const ASK_INTERVAL_MS = 5_000;
/** A bundle is told of when it has been quiet for so long, and again as often as REPEAT_MS. */
const QUIET_MS = 10_000;
/** One that goes on is told of when it has run for so long. */
const LONG_MS = 60_000;
const REPEAT_MS = 30_000;
const ANSWER_TIMEOUT_MS = 10_000;
const MAX_STACKS_CHARACTERS = 4_000;
/** Of a worker, at once: the first ones say enough. */
const MAX_TOLD = 16;

export interface WatchedHarness {
  readonly connection: HarnessConnection;
  readonly job: {
    readonly description: { readonly jobId: JobId };
    /** The vertex that a descriptor belongs to. */
    vertexOf(descriptorId: string): VertexId | undefined;
  };
}

export interface SlowBundlesInit {
  readonly harnesses: () => Iterable<WatchedHarness>;
  readonly status: Pick<WorkerStatusService, "has" | "requestStatus">;
  readonly tell: (message: SlowBundle) => void;
  readonly clock: Clock;
  readonly log: Log;
}

interface Watch {
  readonly harness: WatchedHarness;
  readonly bundleId: string;
  readonly bundle: WatchedBundle;
  readonly startedMs: number;
  movedMs: number;
  activity: number;
  /** Of the metrics when they were last asked for. */
  mark: string | undefined;
  askedMs: number;
  /** Undefined while the job server knows nothing of it. */
  toldMs: number | undefined;
  isBusy: boolean;
}

export class SlowBundles {
  readonly #init: SlowBundlesInit;
  readonly #watches = new Map<string, Watch>();

  constructor(init: SlowBundlesInit) {
    this.#init = init;
  }

  /** Looks again and again until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#init.clock.sleep(LOOK_INTERVAL_MS, signal).catch(() => undefined);
      if (!signal.aborted) this.look();
    }
  }

  /** Takes note of new bundles and of those that have ended, and sees to those that are quiet. */
  look(): void {
    const now = this.#init.clock.monotonicMs();
    const seen = new Set<string>();
    for (const harness of this.#init.harnesses())
      for (const [bundleId, { watched }] of harness.connection.bundles) {
        seen.add(bundleId);
        if (!this.#watches.has(bundleId)) this.#watches.set(bundleId, newWatch(harness, bundleId, watched, now));
      }
    for (const [bundleId, watch] of this.#watches) {
      if (seen.has(bundleId)) void this.#lookAt(watch, now);
      else {
        this.#watches.delete(bundleId);
        this.#withdraw(watch);
      }
    }
  }

  async #lookAt(watch: Watch, now: number): Promise<void> {
    if (watch.isBusy) return;
    watch.isBusy = true;
    try {
      if (watch.activity !== watch.bundle.activity) {
        watch.activity = watch.bundle.activity;
        watch.movedMs = now;
      } else if (now - Math.max(watch.askedMs, watch.movedMs) >= ASK_INTERVAL_MS) await this.#ask(watch, now);
      const isSlow = now - watch.movedMs >= QUIET_MS || now - watch.startedMs >= LONG_MS;
      if (!isSlow) this.#withdraw(watch);
      else if (watch.toldMs === undefined || now - watch.toldMs >= REPEAT_MS) await this.#tell(watch, now);
    } finally {
      watch.isBusy = false;
    }
  }

  /** A harness that does not answer stands still. */
  async #ask(watch: Watch, now: number): Promise<void> {
    watch.askedMs = now;
    const infos = await this.#inTime(watch.bundle.progress()).catch(() => undefined);
    if (infos === undefined) return;
    const mark = progressMark(infos);
    if (watch.mark !== undefined && watch.mark !== mark) watch.movedMs = now;
    watch.mark = mark;
  }

  async #inTime<Value>(answer: Promise<Value>): Promise<Value | undefined> {
    const timer = new AbortController();
    const late = this.#init.clock.sleep(ANSWER_TIMEOUT_MS, timer.signal).then(
      () => undefined,
      () => undefined,
    );
    answer.catch(() => undefined);
    try {
      return await Promise.race([answer, late]);
    } finally {
      timer.abort();
    }
  }

  async #tell(watch: Watch, now: number): Promise<void> {
    const told = [...this.#watches.values()].filter(({ toldMs }) => toldMs !== undefined).length;
    const { bundleId, harness } = watch;
    const vertexId = harness.job.vertexOf(watch.bundle.descriptorId);
    if (vertexId === undefined || (watch.toldMs === undefined && told >= MAX_TOLD)) return;
    watch.toldMs = now;
    const starved = watch.bundle.awaitsInput ? "It waits for input that has not reached it.\n" : "";
    const stacks = starved + (await this.#stacks(harness.connection.harnessId, bundleId));
    // It may have ended meanwhile, which was told then.
    if (this.#watches.get(bundleId) !== watch) return;
    this.#init.tell({
      ...this.#ids(watch, vertexId),
      ageMs: BigInt(Math.round(now - watch.startedMs)),
      quietMs: BigInt(Math.round(now - watch.movedMs)),
      stacks,
      ended: false,
    });
  }

  async #stacks(harnessId: HarnessId, bundleId: string): Promise<string> {
    const { status, log } = this.#init;
    if (!status.has(harnessId))
      return "Its SDK harness has no worker status stream, so where it stands cannot be told: Python's LOOPBACK clients and worker pools start harnesses without one. Look at that process, for example with py-spy dump.";
    try {
      const text = await status.requestStatus(harnessId, ANSWER_TIMEOUT_MS);
      log.debug({ harness: harnessId, bundle: bundleId, status: text }, "status of a harness with a slow bundle");
      return statusExcerpt(text, bundleId, MAX_STACKS_CHARACTERS);
    } catch (failure) {
      return `Its SDK harness does not tell where it stands: ${WeirError.from(failure).message} Native code that keeps Python's interpreter lock has that effect.`;
    }
  }

  #withdraw(watch: Watch): void {
    if (watch.toldMs === undefined) return;
    watch.toldMs = undefined;
    const vertexId = watch.harness.job.vertexOf(watch.bundle.descriptorId) ?? "";
    this.#init.tell({ ...this.#ids(watch, vertexId), ageMs: 0n, quietMs: 0n, stacks: "", ended: true });
  }

  #ids({ harness, bundleId }: Watch, vertexId: string) {
    return { jobId: harness.job.description.jobId, vertexId, bundleId, harnessId: harness.connection.harnessId };
  }
}

function newWatch(harness: WatchedHarness, bundleId: string, bundle: WatchedBundle, now: number): Watch {
  return {
    harness,
    bundleId,
    bundle,
    startedMs: now,
    movedMs: now,
    activity: bundle.activity,
    mark: undefined,
    askedMs: now,
    toldMs: undefined,
    isBusy: false,
  };
}

/** Changes when the bundle has done something: times change in one that stands still, too. */
function progressMark(infos: readonly MonitoringInfo[]): string {
  const marks = infos
    .filter(({ urn }) => !/execution_time|msecs/.test(urn))
    .map(({ urn, labels, payload }) =>
      createHash("sha256").update(urn).update(JSON.stringify(labels)).update(payload).digest("base64"),
    );
  // They come in any order.
  return marks.sort().join();
}
