/**
 * What is known of the tasks of a streaming job in the current execution attempts of its regions: how far each has come and
 * what it last said of itself. Pure.
 *
 * Invariant: a task's state moves RUNNING → FINISHED, and back only by the end of its execution attempt.
 */
import type { StreamTaskStatus } from "../../proto/gen/worker.ts";
import type { WorkerId } from "../base/ids.ts";
import type { PlacedTask, PlannedRegion, StreamingPlan, TaskKey } from "./streaming-plan.ts";
import { MAX_TIMESTAMP, type TaskHold } from "./watermark-text.ts";

/** For people: `weir explain`, and messages about what does not move. Plain data. */
export interface TaskProgress {
  readonly vertexId: string;
  readonly vertexName: string;
  readonly subtaskIndex: number;
  readonly parallelism: number;
  readonly workerId: WorkerId;
  readonly state: "deployed" | "running" | "finished";
  /** What the task last told; undefined before it has. */
  readonly status: TaskStatus | undefined;
}

export interface TaskStatus {
  /** Milliseconds since 1970, rounded to what a number can hold. */
  readonly inputWatermark: number;
  readonly outputWatermark: number;
  /** What keeps the output watermark behind the input watermark; "" when nothing does. */
  readonly holdKind: string;
  readonly holdTransform: string;
  readonly queuedBytes: number;
  /** 0 when no bundle runs. */
  readonly bundleAgeMs: number;
  /** Everything that holds the output watermark, the least first. */
  readonly holds: readonly TaskHold[];
  /** Vertices to which a channel is full. */
  readonly fullToVertices: readonly string[];
}

interface Entry {
  readonly task: PlacedTask;
  state: TaskProgress["state"];
  status: TaskStatus | undefined;
}

export class StreamTaskTable {
  #entries: ReadonlyMap<TaskKey, Entry> = new Map();
  #notRunning = 0;
  #unfinished = 0;
  /** The most tasks that were finished in any attempt: more is progress. */
  #mostFinished = 0;

  /** Regions that were not in one begin an execution attempt. */
  deployed(plan: StreamingPlan): void {
    this.#entries = new Map(
      plan.tasks.map((task) => [
        task.key,
        { state: "deployed", status: undefined, ...this.#entries.get(task.key), task },
      ]),
    );
    this.#count();
  }

  /** The execution attempts of regions have ended. */
  lost(regions: readonly PlannedRegion[]): void {
    const indices = new Set(regions.map(({ index }) => index));
    for (const entry of this.#entries.values()) {
      if (!indices.has(entry.task.region)) continue;
      entry.state = "deployed";
      entry.status = undefined;
    }
    this.#count();
  }

  #count(): void {
    const states = [...this.#entries.values()].map(({ state }) => state);
    this.#notRunning = states.filter((state) => state === "deployed").length;
    this.#unfinished = states.filter((state) => state !== "finished").length;
  }

  /** Running or finished. */
  get allRunning(): boolean {
    return this.#notRunning === 0;
  }

  get allFinished(): boolean {
    return this.#unfinished === 0;
  }

  isFinished(key: TaskKey): boolean {
    return this.#entries.get(key)?.state === "finished";
  }

  /** @returns true when it was not running before. */
  running(key: TaskKey): boolean {
    const entry = this.#entries.get(key);
    if (entry?.state !== "deployed") return false;
    entry.state = "running";
    this.#notRunning--;
    return true;
  }

  /** @returns true when more tasks are finished than in any attempt before. */
  finished(key: TaskKey): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.state === "finished") return false;
    this.running(key);
    entry.state = "finished";
    this.#unfinished--;
    const count = this.#entries.size - this.#unfinished;
    if (count <= this.#mostFinished) return false;
    this.#mostFinished = count;
    return true;
  }

  /** @returns whether its input has ended, and some of it waits for a checkpoint to be stable */
  told(key: TaskKey, status: StreamTaskStatus): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    entry.status = {
      inputWatermark: Number(status.inputWatermark),
      outputWatermark: Number(status.outputWatermark),
      holdKind: status.holdKind,
      holdTransform: status.holdTransform,
      queuedBytes: Number(status.queuedBytes),
      bundleAgeMs: Number(status.bundleAgeMs),
      holds: status.holds.map((hold) => ({ ...hold, timestamp: Number(hold.timestamp), count: Number(hold.count) })),
      fullToVertices: status.fullToVertices,
    };
    return Number(status.inputWatermark) >= MAX_TIMESTAMP && status.holds.some(({ kind }) => kind === "stable input");
  }

  /** In the plan's order. */
  progress(): TaskProgress[] {
    return [...this.#entries.values()].map(({ task, state, status }) => ({
      vertexId: task.vertex.id,
      vertexName: task.vertex.name,
      subtaskIndex: task.deployment.subtaskIndex,
      parallelism: task.deployment.parallelism,
      workerId: task.workerId,
      state,
      status,
    }));
  }
}
