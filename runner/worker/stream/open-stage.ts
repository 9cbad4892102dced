/** Puts the stage of a streaming task together from its parts. */
import { present } from "../../base/assert.ts";
import { compileSkip } from "../../coders/element-boundary.ts";
import type { ExecutableStageSpec } from "../../graph/execution-graph.ts";
import { type BundlePlan, sdkAbilities } from "../task/bundle-messages.ts";
import { BundleDuration } from "./bundle-duration.ts";
import { BundleSizing } from "./bundle-sizing.ts";
import { BundleProgress, type UncommittedMetrics } from "./bundle-progress.ts";
import { createSideInputs, createSortedInput, createTimers, createUserState } from "./create-parts.ts";
import { StableInput } from "./stable-input.ts";
import { droppedInfo, STATEFUL_PAR_DO_DROPPED } from "./dropped-input.ts";
import { InputGathering } from "./input-gathering.ts";
import { LateInput } from "./late-input.ts";
import { PagedValues } from "./paged-values.ts";
import { PushedBackInput } from "./pushed-back-input.ts";
import { Residuals } from "./residuals.ts";
import type { StreamOutputs } from "./stream-outputs.ts";
import type { StreamSideInputs } from "./stream-ports.ts";
import { StreamStage } from "./stream-stage.ts";
import type { StreamStageInit } from "./stream-stage-init.ts";
import { Truncation } from "./truncation.ts";
import type { StreamTaskDeployed, StreamTaskEnvironment } from "./stream-task-environment.ts";

/** An SDK takes as long to hear of a split. */
const MIN_BUNDLE_MS = 2;

type FromTask = Pick<
  StreamStageInit,
  "inputWatermark" | "arrivedWatermark" | "restored" | "onCommitted" | "onBarrier" | "wake" | "onFailure" | "signal"
> & {
  readonly metrics: UncommittedMetrics;
  /** The SDK has mapped a window: main input that waits may be ready. */
  readonly onMapped: () => void;
};

export function openStage(
  environment: StreamTaskEnvironment,
  task: StreamTaskDeployed,
  stage: ExecutableStageSpec,
  output: StreamOutputs,
  fromTask: FromTask,
): { readonly stage: StreamStage; readonly sideInputs: StreamSideInputs | undefined } {
  const { graph, limits, rows, clock, jobClock, log } = environment;
  const idPrefix = `${task.subtaskIndex}.${task.executionAttempt}`;
  const plan: BundlePlan = {
    descriptorId: environment.descriptorId(task.vertex.id),
    sourceTransformId: stage.sourceTransformId,
    sinkTransformIds: stage.sinks.map((sink) => sink.transformId),
    timerFamilies: stage.timers,
    chunkBytes: limits.chunkBytes,
    skip: compileSkip(graph.coders, stage.inputCoderId),
    ...sdkAbilities(graph.environments[stage.environmentId]),
  };
  const residuals = new Residuals(rows.table("residuals"), idPrefix);
  const harness = (signal: AbortSignal) => environment.harness(stage.environmentId, 0, signal);
  const sideInputs =
    stage.sideInputs.length === 0
      ? undefined
      : createSideInputs(environment, task, stage, fromTask.signal, (failure) => {
          if (failure === undefined) fromTask.onMapped();
          else if (!fromTask.signal.aborted) fromTask.onFailure(failure);
        });
  const keyed = stage.userStates[0] ?? stage.timers[0];
  const onDropped = (count: number) => {
    const transformId = keyed?.transformId ?? stage.transforms[0]?.id ?? "";
    fromTask.onCommitted([droppedInfo(transformId, STATEFUL_PAR_DO_DROPPED, count)], undefined);
  };
  const sizing =
    environment.scratch === undefined || stage.userStates.length === 0
      ? undefined
      : new BundleSizing(environment.scratch.memoryBytes, environment.gathersInput);
  const waiting = {
    sorted: stage.requiresTimeSortedInput
      ? createSortedInput(environment, task, stage, fromTask.arrivedWatermark)
      : undefined,
    // Without checkpoints no element is ever given to the stage again, save in a retry, which has the same input.
    stable:
      stage.requiresStableInput && environment.checkpoints
        ? new StableInput(rows.table("stable-input"), idPrefix)
        : undefined,
    onDropped,
  };
  const late =
    keyed === undefined
      ? undefined
      : LateInput.of(
          graph.coders,
          stage.inputCoderId,
          present(graph.windowings[keyed.windowingId], "a stateful stage's windowing"),
          onDropped,
        );
  return {
    sideInputs,
    stage: new StreamStage({
      ...fromTask,
      progress: new BundleProgress(fromTask.metrics, environment, fromTask.signal),
      stageName: task.vertex.name,
      plan,
      splittable: stage.splittable,
      output,
      userState: stage.userStates.length === 0 ? undefined : createUserState(environment, task, stage),
      timers: stage.timers.length === 0 ? undefined : createTimers(environment, stage),
      residuals,
      truncation:
        stage.truncate === undefined
          ? undefined
          : new Truncation({
              stageName: task.vertex.name,
              descriptorId: environment.truncateDescriptorId(task.vertex.id),
              truncate: stage.truncate,
              chunkBytes: limits.chunkBytes,
              skip: plan.skip,
              residuals,
              maxBundleAttempts: limits.maxBundleAttempts,
              harness,
              log,
              signal: fromTask.signal,
            }),
      sideInputs,
      pushedBack: new PushedBackInput(rows.table("pushed-back"), idPrefix),
      waiting: waiting.sorted === undefined && waiting.stable === undefined ? undefined : waiting,
      late,
      firesTimersAtEnd: environment.firesTimersAtEnd,
      pagedValues:
        task.vertex.head.kind === "group-by-key" && task.vertex.head.stateBacked
          ? new PagedValues(graph.coders, stage.inputCoderId, limits)
          : undefined,
      gathering:
        environment.gathersInput && stage.userStates.length > 0 && !stage.splittable
          ? new InputGathering({
              maxBytes: environment.maxQueuedBytes,
              maxElements: () => sizing?.limit(environment.maxBundleElements) ?? environment.maxBundleElements,
              maxMs: environment.maxBundleTimeMs,
              clock,
              wake: fromTask.wake,
            })
          : undefined,
      sizing,
      duration:
        environment.checkpoints && !stage.splittable ? new BundleDuration(environment.maxBundleElements) : undefined,
      limits: {
        maxBundleBytes: limits.bundleInputBytes,
        maxBundleElements: environment.maxBundleElements,
        maxQueuedBytes: environment.maxQueuedBytes,
        // Only barriers make short bundles worth what they cost.
        minBundleTimeMs: environment.checkpoints ? MIN_BUNDLE_MS : environment.maxBundleTimeMs,
        maxBundleTimeMs: environment.maxBundleTimeMs,
        maxBundleAttempts: limits.maxBundleAttempts,
      },
      harness,
      clock,
      jobClock,
      log,
    }),
  };
}
