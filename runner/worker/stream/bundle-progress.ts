/**
 * Asks the running bundle of a streaming task for its metrics from time to time, so that those of long bundles are
 * told before they commit, and those of bundles that fail are not lost.
 *
 * Invariants: a bundle that lasts less than an interval is asked nothing; no more than one question is open with one,
 * and an SDK that does not answer is asked nothing more; nothing of a bundle is told as running once it has ended.
 */
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { WatchedBundle } from "../task/harness-connection.ts";

export const PROGRESS_INTERVAL_MS = 1_000;

/** Takes what bundles have told. */
export interface UncommittedMetrics {
  /** What the running bundle has told last, all since it began; nothing when none runs. */
  running(infos: readonly MonitoringInfo[]): void;
  /** What a bundle that has failed told last. */
  failed(infos: readonly MonitoringInfo[]): void;
}

type AskedBundle = Pick<WatchedBundle, "progress">;

export class BundleProgress {
  readonly #metrics: UncommittedMetrics;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #signal: AbortSignal;
  #running: AskedBundle | undefined;
  #startedMs = 0;
  #infos: readonly MonitoringInfo[] = [];
  #isAsking = false;
  #isLooking = false;

  constructor(
    metrics: UncommittedMetrics,
    { clock, log }: { readonly clock: Clock; readonly log: Log },
    signal: AbortSignal,
  ) {
    this.#metrics = metrics;
    this.#clock = clock;
    this.#log = log;
    this.#signal = signal;
  }

  begin(bundle: AskedBundle): void {
    this.#running = bundle;
    this.#startedMs = this.#clock.monotonicMs();
    this.#infos = [];
    this.#isAsking = false;
    if (!this.#isLooking) void this.#look();
  }

  end(hasCommitted: boolean): void {
    this.#running = undefined;
    if (this.#infos.length === 0) return;
    this.#metrics.running([]);
    if (!hasCommitted) this.#metrics.failed(this.#infos);
    this.#infos = [];
  }

  /** One timer however many bundles come one after the other; none when there are none. */
  async #look(): Promise<void> {
    this.#isLooking = true;
    try {
      while (this.#running !== undefined && !this.#signal.aborted) {
        await this.#clock.sleep(PROGRESS_INTERVAL_MS, this.#signal);
        const running = this.#running;
        if (running === undefined || this.#isAsking) continue;
        if (this.#clock.monotonicMs() - this.#startedMs >= PROGRESS_INTERVAL_MS) void this.#ask(running);
      }
    } catch {
      // The task has ended.
    }
    this.#isLooking = false;
  }

  async #ask(bundle: AskedBundle): Promise<void> {
    this.#isAsking = true;
    try {
      const infos = await bundle.progress();
      if (this.#running !== bundle) return;
      this.#isAsking = false;
      if (infos === undefined) return;
      this.#infos = infos;
      this.#metrics.running(infos);
    } catch (failure) {
      // The bundle's own end tells what happened to its harness.
      this.#log.debug({ err: failure }, "progress was not answered");
      if (this.#running === bundle) this.#isAsking = false;
    }
  }
}
