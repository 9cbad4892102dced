/**
 * Looks after a task's running bundles from time to time: asks those that run longer for their metrics so far, and
 * closes those that have had their time.
 *
 * Invariant: it never has more than one question of a kind open with a bundle; an SDK that does not answer is asked
 * nothing more. A bundle that lasts less than an interval costs nothing.
 */
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { BundleAttempt } from "./bundle-attempt.ts";

export interface RunningBundle {
  readonly attempt: BundleAttempt;
  readonly startedMs: number;
  /** A split is being asked for. */
  splitting: boolean;
  /** Progress is being asked for. */
  asking: boolean;
  /** It was told to give back what it has not begun, and did. */
  closing: boolean;
  /** Metrics as it told them last; of one that has not committed. */
  infos: readonly MonitoringInfo[];
}

export function runningBundle(attempt: BundleAttempt, startedMs: number): RunningBundle {
  return { attempt, startedMs, splitting: false, asking: false, closing: false, infos: [] };
}

export interface BundleSupervisorInit {
  readonly intervalMs: number;
  /** A bundle that runs longer is to be closed. */
  readonly maxBundleTimeMs: number;
  readonly running: ReadonlySet<RunningBundle>;
  /** Makes the bundle give back all that it has not begun. @returns false when it did not, now */
  readonly closeBundle: (bundle: RunningBundle) => Promise<boolean>;
  /** Some bundle has told new metrics. */
  readonly onProgress: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

export class BundleSupervisor {
  readonly #init: BundleSupervisorInit;

  constructor(init: BundleSupervisorInit) {
    this.#init = init;
  }

  /** Goes on until the signal is aborted, and resolves then. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, intervalMs, running, maxBundleTimeMs } = this.#init;
    while (!signal.aborted) {
      await clock.sleep(intervalMs, signal).catch(() => undefined);
      const now = clock.monotonicMs();
      for (const bundle of running) {
        if (signal.aborted) return;
        const ageMs = now - bundle.startedMs;
        if (ageMs >= intervalMs && !bundle.asking) void this.#ask(bundle);
        if (ageMs >= maxBundleTimeMs && !bundle.splitting && !bundle.closing) void this.#close(bundle);
      }
    }
  }

  async #ask(bundle: RunningBundle): Promise<void> {
    bundle.asking = true;
    try {
      const infos = await bundle.attempt.progress();
      if (infos !== undefined && this.#init.running.has(bundle)) {
        bundle.infos = infos;
        this.#init.onProgress();
      }
    } catch (failure) {
      // The bundle's own end tells what happened to its harness.
      this.#init.log.debug({ err: failure }, "progress was not answered");
    }
    bundle.asking = false;
  }

  async #close(bundle: RunningBundle): Promise<void> {
    bundle.splitting = true;
    try {
      bundle.closing = await this.#init.closeBundle(bundle);
    } catch (failure) {
      this.#init.log.debug({ err: failure }, "split was not answered");
    }
    bundle.splitting = false;
  }
}
