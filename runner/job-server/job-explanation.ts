/**
 * Where a job stands, stage by stage, and what holds it back: what `weir explain` prints. Pure: built from what tasks
 * last told of themselves, which is up to a few seconds old.
 *
 * A stage's watermarks are the least of its subtasks', its queued bytes their sum, its bundle age the oldest.
 */
import { recordLines } from "../checkpoint/record-lines.ts";
import type { CheckpointRecord } from "../checkpoint/snapshot-manifest.ts";
import type { JobProgress, SlowBundle } from "./job-executor.ts";
import { isTerminal, type JobState } from "./job-state.ts";
import type { TaskProgress } from "./stream-task-table.ts";
import { holdText, type TaskHold, watermarkText } from "./watermark-text.ts";

/** Of a stage's slow bundles, for people. */
const MAX_STACKS = 4;

/** Plain data; as `weir explain --json` prints it. */
export interface JobExplanation {
  readonly jobId: string;
  readonly state: JobState;
  /** Null where the job does not run. */
  readonly engine: "blocking" | "streaming" | null;
  readonly stages: readonly StageExplanation[];
  /** The stage furthest upstream that something of its own holds back; null when none is. */
  readonly heldBackAt: string | null;
  /** Null where the job takes none. */
  readonly checkpoints: CheckpointsExplanation | null;
}

export interface CheckpointsExplanation {
  /** Of this job server. */
  readonly completed: number;
  readonly aborted: number;
  /** Of the last complete one; null where there is none. */
  readonly lastDurationMs: number | null;
  readonly lastRecord: CheckpointRecord | null;
}

export interface StageExplanation {
  readonly vertexId: string;
  readonly name: string;
  /** Null while it has not been decided. */
  readonly parallelism: number | null;
  readonly subtasksRunning: number;
  readonly subtasksFinished: number;
  /** Milliseconds for which the oldest task of a blocking stage has run. */
  readonly taskAgeMs?: number;
  /** ISO time, "-∞" or "+∞"; null before it was told, and in blocking jobs. */
  readonly inputWatermark: string | null;
  readonly outputWatermark: string | null;
  readonly queuedBytes: number;
  /** 0 when none runs. */
  readonly bundleAgeMs: number;
  readonly holds: readonly HoldExplanation[];
  /** Names of the stages that have to take something before it starts another bundle. */
  readonly waitsForRoomAt: readonly string[];
  /** Bundles that stand still or run for very long. */
  readonly slowBundles: readonly Omit<SlowBundle, "vertexId">[];
}

export interface HoldExplanation {
  readonly subtask: number;
  readonly kind: string;
  readonly transform: string;
  readonly detail: string;
  readonly timestamp: string;
  readonly count: number;
  readonly keyGroups: readonly [number, number] | null;
  /** The same for people. */
  readonly text: string;
}

/** @param progress undefined when the job does not run */
export function explainJob(jobId: string, state: JobState, progress: JobProgress | undefined): JobExplanation {
  if (progress === undefined || isTerminal(state))
    return { jobId, state, engine: null, stages: [], heldBackAt: null, checkpoints: null };
  const slowBundlesOf = (wanted: string) =>
    (progress.slowBundles ?? []).flatMap(({ vertexId, ...bundle }) => (vertexId === wanted ? [bundle] : []));
  if (progress.stages !== undefined) {
    const stages = progress.stages.map(({ vertexId, vertexName, subtasks, running, finished, oldestTaskAgeMs }) => ({
      vertexId,
      name: vertexName,
      parallelism: subtasks ?? null,
      subtasksRunning: running,
      subtasksFinished: finished,
      taskAgeMs: oldestTaskAgeMs,
      inputWatermark: null,
      outputWatermark: null,
      queuedBytes: 0,
      bundleAgeMs: 0,
      holds: [],
      waitsForRoomAt: [],
      slowBundles: slowBundlesOf(vertexId),
    }));
    return { jobId, state, engine: "blocking", stages, heldBackAt: null, checkpoints: null };
  }
  const byVertex = new Map<string, TaskProgress[]>();
  for (const task of progress.tasks) byVertex.set(task.vertexId, [...(byVertex.get(task.vertexId) ?? []), task]);
  const nameOf = (vertexId: string) => byVertex.get(vertexId)?.[0]?.vertexName ?? vertexId;
  const stages = [...byVertex.values()].map((tasks) => ({
    ...explainStage(tasks, nameOf),
    slowBundles: slowBundlesOf(tasks[0]?.vertexId ?? ""),
  }));
  const held = stages.find(({ holds, waitsForRoomAt }) => holds.length > 0 && waitsForRoomAt.length === 0);
  const checkpoints =
    progress.checkpoints === undefined
      ? null
      : {
          ...progress.checkpoints,
          lastDurationMs: progress.checkpoints.lastDurationMs ?? null,
          lastRecord: progress.checkpoints.lastRecord ?? null,
        };
  return { jobId, state, engine: "streaming", stages, heldBackAt: held?.name ?? null, checkpoints };
}

function explainStage(
  tasks: readonly TaskProgress[],
  nameOf: (vertexId: string) => string,
): Omit<StageExplanation, "slowBundles"> {
  const [first] = tasks as readonly [TaskProgress];
  const told = tasks.flatMap(({ status }) => (status === undefined ? [] : [status]));
  const least = (values: readonly number[]) => (told.length < tasks.length ? null : watermarkText(Math.min(...values)));
  return {
    vertexId: first.vertexId,
    name: first.vertexName,
    parallelism: first.parallelism,
    subtasksRunning: tasks.filter(({ state }) => state === "running").length,
    subtasksFinished: tasks.filter(({ state }) => state === "finished").length,
    inputWatermark: least(told.map(({ inputWatermark }) => inputWatermark)),
    outputWatermark: least(told.map(({ outputWatermark }) => outputWatermark)),
    queuedBytes: told.reduce((sum, { queuedBytes }) => sum + queuedBytes, 0),
    bundleAgeMs: Math.max(0, ...told.map(({ bundleAgeMs }) => bundleAgeMs)),
    holds: tasks.flatMap((task) => effectiveHolds(task).map((hold) => explainHold(task, hold))),
    waitsForRoomAt: [...new Set(told.flatMap(({ fullToVertices }) => fullToVertices))].map(nameOf),
  };
}

/** Those that keep the output watermark behind the input watermark, and a bundle that runs. */
export function effectiveHolds({ status, state }: TaskProgress): readonly TaskHold[] {
  if (status === undefined || state === "finished") return [];
  return status.holds.filter(({ kind, timestamp }) => kind === "bundle" || timestamp < status.inputWatermark);
}

function explainHold({ subtaskIndex, status }: TaskProgress, hold: TaskHold): HoldExplanation {
  const { kind, transform, detail, timestamp, count, keyGroupFirst, keyGroupLast } = hold;
  return {
    subtask: subtaskIndex,
    kind,
    transform,
    detail,
    timestamp: watermarkText(timestamp),
    count,
    keyGroups: keyGroupFirst < 0 ? null : [keyGroupFirst, keyGroupLast],
    text: holdText(hold, status?.bundleAgeMs ?? 0),
  };
}

/** Lines for people. */
export function explanationLines({ jobId, state, engine, stages, heldBackAt, checkpoints }: JobExplanation): string[] {
  if (engine === null) return [`${jobId} ${state}: no stage of it runs.`];
  const lines = [`${jobId} ${state}, ${engine === "streaming" ? "streaming" : "stage by stage"}`];
  if (checkpoints !== null) lines.push(...checkpointLines(checkpoints));
  for (const stage of stages) {
    lines.push("", stage.name);
    const { parallelism, subtasksRunning, subtasksFinished, inputWatermark, outputWatermark } = stage;
    const planned =
      parallelism === null ? "waits for its input" : `${parallelism} subtask${parallelism === 1 ? "" : "s"}`;
    const age =
      stage.taskAgeMs !== undefined && subtasksRunning > 0 ? `, the oldest for ${seconds(stage.taskAgeMs)}` : "";
    lines.push(`  ${planned}: ${subtasksRunning} running${age}, ${subtasksFinished} finished`);
    if (engine === "blocking") {
      lines.push(...slowBundleLines(stage));
      continue;
    }
    lines.push(`  watermark in ${inputWatermark ?? "not told yet"}, out ${outputWatermark ?? "not told yet"}`);
    const bundle = stage.bundleAgeMs > 0 ? `a bundle for ${seconds(stage.bundleAgeMs)}` : "no bundle";
    lines.push(`  ${stage.queuedBytes} bytes queued; ${bundle} running`);
    for (const { subtask, text } of stage.holds)
      lines.push(`  held by ${text}${parallelism === 1 ? "" : ` (subtask ${subtask})`}`);
    for (const name of stage.waitsForRoomAt) lines.push(`  waits for room in the channels to ${name}`);
    lines.push(...slowBundleLines(stage));
  }
  if (heldBackAt !== null) lines.push("", `Held back first at ${heldBackAt}.`);
  return lines;
}

function checkpointLines({ completed, aborted, lastDurationMs, lastRecord }: CheckpointsExplanation): string[] {
  const took = lastDurationMs === null ? "" : `; the last one took ${Math.round(lastDurationMs)} ms`;
  const line = `  checkpoints: ${completed} complete, ${aborted} given up${took}`;
  return [line, ...(lastRecord === null ? [] : recordLines(lastRecord).map((text) => `    ${text}`))];
}

function slowBundleLines({ slowBundles }: StageExplanation): string[] {
  const lines = slowBundles
    .slice(0, MAX_STACKS)
    .flatMap(({ bundleId, harnessId, ageMs, quietMs, stacks }) => [
      `  bundle ${bundleId} on SDK harness ${harnessId} runs for ${seconds(ageMs)}, without progress for ${seconds(quietMs)}`,
      ...stacks.split("\n").map((line) => `    ${line}`),
    ]);
  const more = slowBundles.length - MAX_STACKS;
  return more > 0 ? [...lines, `  ${more} more slow bundles`] : lines;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`;
}
