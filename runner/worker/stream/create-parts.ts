/** The parts of a streaming task over its rows: which class stands behind each port. */
import type { ExecutableStageSpec, HeadSpec } from "../../graph/execution-graph.ts";
import type { StreamSideInputs, Timers, UserState, WindowedGrouping } from "./stream-ports.ts";
import { KeyedUserState } from "./user-state.ts";
import type { StreamTaskDeployed, StreamTaskEnvironment } from "./stream-task-environment.ts";

export function createUserState(
  environment: StreamTaskEnvironment,
  task: StreamTaskDeployed,
  stage: ExecutableStageSpec,
): UserState {
  const { rows, maxParallelism, limits } = environment;
  return new KeyedUserState({
    rows,
    stage,
    maxParallelism,
    pageBytes: limits.statePageBytes,
    cacheTokenPrefix: `${task.vertex.id}.${task.subtaskIndex}.${task.executionAttempt}`,
  });
}

export function createTimers(
  _environment: StreamTaskEnvironment,
  _task: StreamTaskDeployed,
  _stage: ExecutableStageSpec,
): Timers {
  throw new Error("timers");
}

export function createSideInputs(
  _environment: StreamTaskEnvironment,
  _task: StreamTaskDeployed,
  _stage: ExecutableStageSpec,
): StreamSideInputs {
  throw new Error("side inputs");
}

export function createGrouping(
  _environment: StreamTaskEnvironment,
  _task: StreamTaskDeployed,
  _head: Extract<HeadSpec, { kind: "group-by-key" }>,
  _signal: AbortSignal,
): WindowedGrouping {
  throw new Error("grouping");
}
