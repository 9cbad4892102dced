/** What the stage of a streaming task is put together from. */
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import type { BundlePlan } from "../task/bundle-messages.ts";
import type { HarnessConnection } from "../task/harness-connection.ts";
import type { StageOutput } from "../task/stage-executor.ts";
import type { BundleDuration } from "./bundle-duration.ts";
import type { BundleSizing } from "./bundle-sizing.ts";
import type { BundleProgress } from "./bundle-progress.ts";
import type { Barrier } from "./channel-queue.ts";
import type { Finalize } from "./finalizers.ts";
import type { InputGathering } from "./input-gathering.ts";
import type { JobClock } from "./job-clock.ts";
import type { LateInput } from "./late-input.ts";
import type { PagedValues } from "./paged-values.ts";
import type { PushedBackInput } from "./pushed-back-input.ts";
import type { Residuals } from "./residuals.ts";
import type { StageEntry } from "./stage-queue.ts";
import type { StreamSideInputs, Timers, UserState } from "./stream-ports.ts";
import type { Truncation } from "./truncation.ts";
import type { WaitingInputInit } from "./waiting-input.ts";

export interface StreamStageInit {
  readonly stageName: string;
  readonly plan: BundlePlan;
  readonly splittable: boolean;
  readonly output: StageOutput & { readonly isFull: boolean };
  readonly userState: UserState | undefined;
  readonly timers: Timers | undefined;
  readonly residuals: Residuals;
  /** Of a splittable stage that may be unbounded. */
  readonly truncation: Truncation | undefined;
  readonly sideInputs: StreamSideInputs | undefined;
  readonly pushedBack: PushedBackInput;
  /** Of a stage that requires its input sorted or stable. */
  readonly waiting: WaitingInputInit | undefined;
  /** Of a stateful stage whose windows expire. */
  readonly late: LateInput | undefined;
  /**
   * At the end of all input, timers of processing time fire at once instead of when they are due: in batch, where there
   * is nothing that the time could bring.
   */
  readonly firesTimersAtEnd: boolean;
  /** Where main input is groups that the SDK may read in pages. */
  readonly pagedValues: PagedValues | undefined;
  /** Where input is to gather to large bundles. */
  readonly gathering: InputGathering | undefined;
  /** Of a stage with user state that a bundle may not hold in memory as it likes. */
  readonly sizing: BundleSizing | undefined;
  /** Where barriers wait for bundles. */
  readonly duration: BundleDuration | undefined;
  readonly limits: {
    readonly maxBundleBytes: number;
    readonly maxBundleElements: number;
    /** Of main input that waits for a bundle. */
    readonly maxQueuedBytes: number;
    /** Of a splittable stage, while its consumers cannot keep up. */
    readonly minBundleTimeMs: number;
    readonly maxBundleTimeMs: number;
    readonly maxBundleAttempts: number;
  };
  /** Where a restored task goes on. */
  readonly inputWatermark: Timestamp;
  /** Of the last mark that had been put in: not before `inputWatermark`. */
  readonly arrivedWatermark: Timestamp;
  /** Input that had not committed, of a snapshot with in-flight data. */
  readonly restored: readonly StageEntry[];
  readonly harness: (signal: AbortSignal) => Promise<HarnessConnection>;
  /** In a commit: metrics, and the finalization that the bundle asked for. */
  readonly onCommitted: (infos: readonly MonitoringInfo[], finalize: Finalize | undefined) => void;
  readonly progress: BundleProgress;
  /** Everything before the barrier has committed. */
  readonly onBarrier: (barrier: Barrier) => void;
  /** Something may have changed: pump again. */
  readonly wake: () => void;
  readonly onFailure: (failure: unknown) => void;
  readonly clock: Clock;
  readonly jobClock: JobClock;
  readonly log: Log;
  readonly signal: AbortSignal;
}
