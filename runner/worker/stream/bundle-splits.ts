/**
 * Splits the running bundle of a splittable stage, and stores what bundles give back.
 *
 * Invariants: what a bundle gave back is independent input from the moment of the split on, whatever becomes of the
 * bundle; what it keeps is stored, too, since a snapshot may come before its commit. What it keeps at a split runs before
 * what it gives back there without a delay, and so does what a later split gives back, which is of what it kept: a source
 * that commits how far it has come when it is finalized would commit past what has yet to run otherwise.
 */
import type { Timestamp } from "../../time/timestamp.ts";
import type { BundleSplit, Residual } from "../task/bundle-attempt.ts";
import type { BundleInput } from "../task/bundle-input.ts";
import type { BundleRunner } from "./bundle-runner.ts";
import type { RunningBundle } from "./bundle-work.ts";
import { elementsOf } from "./encoded-elements.ts";
import type { StreamStageInit } from "./stream-stage-init.ts";

/** Less than any delay that is told; float64 tells times so far apart until 2⁴² ms, the year 2109. */
const EARLIER_MS = 2 ** -10;

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
    const whole = ({ chunks }: BundleInput, dueMs: number) =>
      chunks
        .flatMap((chunk) => elementsOf(chunk.data, this.#init.plan.skip))
        .map((element) => ({ element, dueMs, hold, truncated }));
    this.addResiduals(residuals, running);
    for (const residual of whole(residualChannel, dueMsOf(running))) this.#init.residuals.add(residual);
    running.splitCount++;
    running.residuals = this.#init.residuals.keep(running.residuals, whole(primary, dueMsOf(running)));
  }

  /** Those that tell no watermark hold what the bundle does. */
  addResiduals(given: readonly Residual[], running: RunningBundle): void {
    const { residuals, jobClock } = this.#init;
    const { hold, truncated } = running;
    for (const { element, delayMs, watermarkMs } of given) {
      const dueMs = delayMs > 0 ? jobClock.nowMs() + delayMs : dueMsOf(running);
      residuals.add({ element, dueMs, hold: (watermarkMs ?? hold) as Timestamp, truncated });
    }
  }
}

/** Of what it gives back without a delay now: earlier than what it gave back at former splits. */
function dueMsOf({ dueMs, splitCount }: RunningBundle): number {
  return dueMs - splitCount * EARLIER_MS;
}
