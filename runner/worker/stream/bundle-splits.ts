/**
 * Splits the running bundle of a splittable stage, and stores what bundles give back.
 *
 * Invariant: what a bundle gave back is independent input from the moment of the split on, whatever becomes of the
 * bundle; what it keeps is stored, too, since a snapshot may come before its commit.
 */
import type { Timestamp } from "../../time/timestamp.ts";
import type { BundleSplit, Residual } from "../task/bundle-attempt.ts";
import type { BundleInput } from "../task/bundle-input.ts";
import type { BundleRunner } from "./bundle-runner.ts";
import type { RunningBundle } from "./bundle-work.ts";
import { elementsOf } from "./encoded-elements.ts";
import type { StreamStageInit } from "./stream-stage-init.ts";

export class BundleSplits {
  readonly #init: Pick<StreamStageInit, "plan" | "residuals" | "clock" | "jobClock" | "limits" | "log">;
  readonly #runner: BundleRunner;

  constructor(
    init: Pick<StreamStageInit, "plan" | "residuals" | "clock" | "jobClock" | "limits" | "log">,
    runner: BundleRunner,
  ) {
    this.#init = init;
    this.#runner = runner;
  }

  /** An SDF's bundle is split at 0 when it has run for a while, again and again until it ends, less and less often. */
  async repeat(running: RunningBundle, firstMs: number): Promise<void> {
    const { clock, limits } = this.#init;
    try {
      for (let ms = firstMs; ; ms = Math.min(limits.maxBundleTimeMs, ms * 2)) {
        await clock.sleep(ms, running.timer.signal);
        await this.split(running);
      }
    } catch {
      // The bundle has ended.
    }
  }

  async split(running: RunningBundle): Promise<void> {
    try {
      await this.#runner.split(0, (split) => this.#onSplit(split, running));
    } catch (failure) {
      this.#init.log.debug({ err: failure }, "split was not answered");
    }
  }

  #onSplit({ primary, residuals, residualChannel }: BundleSplit, running: RunningBundle): void {
    const { hold, truncated } = running;
    const dueMs = this.#init.jobClock.nowMs();
    const whole = ({ chunks }: BundleInput) =>
      chunks
        .flatMap((chunk) => elementsOf(chunk.data, this.#init.plan.skip))
        .map((element) => ({ element, dueMs, hold, truncated }));
    this.addResiduals(residuals, running);
    for (const residual of whole(residualChannel)) this.#init.residuals.add(residual);
    running.residuals = this.#init.residuals.keep(running.residuals, whole(primary));
    running.isStored = true;
  }

  /** Those that tell no watermark hold what the bundle does. */
  addResiduals(given: readonly Residual[], { hold, truncated }: Pick<RunningBundle, "hold" | "truncated">): void {
    const { residuals, jobClock } = this.#init;
    const now = jobClock.nowMs();
    for (const { element, delayMs, watermarkMs } of given)
      residuals.add({ element, dueMs: now + delayMs, hold: (watermarkMs ?? hold) as Timestamp, truncated });
  }
}
