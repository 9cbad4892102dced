/** The parts of a streaming task over its rows: which class stands behind each port. */
import { present } from "../../base/assert.ts";
import type { ExecutableStageSpec, HeadSpec } from "../../graph/execution-graph.ts";
import { TriggeredGrouping } from "./grouping/triggered-grouping.ts";
import { TaskSideInputs } from "./side-inputs/task-side-inputs.ts";
import { SortedInput } from "./sorted-input/sorted-input.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import type { MapWindows } from "./side-inputs/window-mapping.ts";
import type { StreamSideInputs, Timers, UserState, WindowedGrouping } from "./stream-ports.ts";
import { KeyedTimers } from "./timers/keyed-timers.ts";
import { KeyedUserState } from "./user-state.ts";
import type { StreamTaskDeployed, StreamTaskEnvironment } from "./stream-task-environment.ts";

export function createUserState(
  environment: StreamTaskEnvironment,
  task: StreamTaskDeployed,
  stage: ExecutableStageSpec,
): UserState {
  const { rows, scratch, maxParallelism, limits } = environment;
  return new KeyedUserState({
    rows,
    scratch,
    stage,
    maxParallelism,
    pageBytes: limits.statePageBytes,
    mapEntryBytes: limits.mapEntryBytes,
    cacheTokenPrefix: `${task.vertex.id}.${task.subtaskIndex}.${task.executionAttempt}`,
  });
}

export function createTimers(environment: StreamTaskEnvironment, stage: ExecutableStageSpec): Timers {
  const { rows, graph, maxParallelism, jobClock } = environment;
  return new KeyedTimers({
    table: rows.table("timers"),
    stage,
    graph,
    maxParallelism,
    processingTimeOf: (setForMs) => jobClock.timeOf(setForMs),
  });
}

export function createSideInputs(
  environment: StreamTaskEnvironment,
  task: StreamTaskDeployed,
  stage: ExecutableStageSpec,
  signal: AbortSignal,
  onMapped: (failure?: unknown) => void,
): StreamSideInputs {
  const { rows, graph, limits } = environment;
  const mappers = new Map(
    stage.sideInputs.map((sideInput, index) => [sideInput, environment.windowMapper?.(task.vertex, index)]),
  );
  const mapWindows: MapWindows = (sideInput, windows) =>
    present(mappers.get(sideInput), "what maps a side input's windows")(windows, signal);
  return new TaskSideInputs({
    table: rows.table("side-inputs"),
    stage,
    graph,
    pageBytes: limits.statePageBytes,
    maxArrivedBytes: environment.maxQueuedBytes,
    mapEntryBytes: limits.mapEntryBytes,
    cacheTokenPrefix: `${task.vertex.id}.${task.subtaskIndex}.${task.executionAttempt}`,
    ...([...mappers.values()].some((mapper) => mapper !== undefined) ? { mapWindows, onMapped } : {}),
  });
}

/** Its elements are sorted by the windowing of the stage's main input. */
export function createSortedInput(
  environment: StreamTaskEnvironment,
  task: StreamTaskDeployed,
  stage: ExecutableStageSpec,
  inputWatermark: Timestamp,
): SortedInput {
  const { rows, graph, maxParallelism, limits } = environment;
  const keyed = stage.userStates[0] ?? stage.timers[0];
  const dataset = task.vertex.inputs[0];
  const windowingId = keyed?.windowingId ?? (dataset === undefined ? "" : graph.datasets[dataset]?.windowingId) ?? "";
  return new SortedInput({
    table: rows.table("sorted-input"),
    coders: graph.coders,
    inputCoderId: stage.inputCoderId,
    allowedLatenessMs: graph.windowings[windowingId]?.allowedLatenessMs ?? 0,
    maxParallelism,
    inputWatermark,
    chunkBytes: limits.chunkBytes,
  });
}

export function createGrouping(
  environment: StreamTaskEnvironment,
  task: StreamTaskDeployed,
  head: Extract<HeadSpec, { kind: "group-by-key" }>,
  signal: AbortSignal,
): WindowedGrouping {
  const { rows, graph, maxParallelism, limits } = environment;
  const dataset = present(task.vertex.inputs[0], "the grouping's input");
  const merger = environment.windowMerger(task.vertex);
  return new TriggeredGrouping({
    coders: graph.coders,
    inputCoderId: present(graph.datasets[dataset], `dataset ${dataset}`).coderId,
    windowing: present(graph.windowings[head.windowingId], "the grouping's windowing strategy"),
    table: rows.table("grouping"),
    maxParallelism,
    chunkBytes: limits.chunkBytes,
    ...(merger === undefined ? {} : { mergeWindows: (windows) => merger.merge(windows, signal) }),
  });
}
