/**
 * Finds the tasks whose output watermark stands still although they have something to do, and says what holds it.
 *
 * A task downstream of a stuck one stands still too, so only the first in the plan's order is told of, once until it
 * moves again. A source that merely has nothing to read is not stuck.
 */
import type { Clock } from "../base/clock.ts";
import { effectiveHolds } from "./job-explanation.ts";
import { type TaskKey, taskKey } from "./streaming-plan.ts";
import type { TaskProgress, TaskStatus } from "./stream-task-table.ts";
import { holdText, watermarkText } from "./watermark-text.ts";

interface Seen {
  readonly outputWatermark: number;
  readonly sinceMs: number;
}

/** In the time after which it is told. */
const CHECKS = 10;

export class StuckWatermarks {
  readonly #afterMs: number;
  #seen = new Map<TaskKey, Seen>();
  #told: TaskKey | undefined;

  constructor(afterMs: number) {
    this.#afterMs = afterMs;
  }

  /** Looks and tells until the signal is aborted. Never rejects. */
  async watch(
    progress: () => readonly TaskProgress[],
    tell: (text: string) => void,
    clock: Clock,
    signal: AbortSignal,
  ): Promise<void> {
    while (!signal.aborted) {
      await clock.sleep(this.#afterMs / CHECKS, signal).catch(() => undefined);
      const text = signal.aborted ? undefined : this.look(progress(), clock.monotonicMs());
      if (text !== undefined) tell(text);
    }
  }

  /** @returns a message for people when a task has been stuck for long enough and was not told of. */
  look(tasks: readonly TaskProgress[], nowMs: number): string | undefined {
    const before = this.#seen;
    this.#seen = new Map();
    let stuck: TaskProgress | undefined;
    for (const task of tasks) {
      const { status, state } = task;
      if (status === undefined || state === "finished" || !hasWork(status)) continue;
      const key = taskKey(task.vertexId, task.subtaskIndex);
      const known = before.get(key);
      const hasMoved = known?.outputWatermark !== status.outputWatermark;
      const sinceMs = hasMoved ? nowMs : known.sinceMs;
      this.#seen.set(key, { outputWatermark: status.outputWatermark, sinceMs });
      if (nowMs - sinceMs >= this.#afterMs) stuck ??= task;
    }
    const key = stuck === undefined ? undefined : taskKey(stuck.vertexId, stuck.subtaskIndex);
    const isNews = key !== undefined && key !== this.#told;
    this.#told = key;
    if (!isNews || stuck?.status === undefined) return undefined;
    const nameOf = (vertexId: string) => tasks.find((task) => task.vertexId === vertexId)?.vertexName ?? vertexId;
    const minutes = Math.round(this.#afterMs / 6_000) / 10;
    const { vertexName, subtaskIndex, parallelism, status } = stuck;
    const which = parallelism > 1 ? ` (subtask ${subtaskIndex} of ${parallelism})` : "";
    return `The watermark of ${vertexName}${which} has stood at ${watermarkText(status.outputWatermark)} for ${minutes} min although input is waiting: ${reason(stuck, status, nameOf)}.`;
  }
}

function hasWork({ queuedBytes, bundleAgeMs, holdKind }: TaskStatus): boolean {
  return queuedBytes > 0 || bundleAgeMs > 0 || holdKind === "side input";
}

function reason(task: TaskProgress, status: TaskStatus, nameOf: (vertexId: string) => string): string {
  const queued = `${status.queuedBytes} bytes of input wait`;
  const holds = effectiveHolds(task).map((hold) => holdText(hold, status.bundleAgeMs));
  if (holds.length > 0) return `held by ${holds.join(", and by ")}; ${queued}`;
  if (status.fullToVertices.length > 0)
    return `it waits for room in the channels to ${status.fullToVertices.map(nameOf).join(", ")}; ${queued}`;
  if (status.holdKind !== "") return `held by ${status.holdKind}; ${queued}`;
  if (status.bundleAgeMs > 0)
    return `a bundle has run for ${Math.round(status.bundleAgeMs / 1000)} s or more; ${queued}`;
  return queued;
}
