/**
 * When a job takes checkpoints, and what becomes of each. Pure: times and acknowledgments in, decisions out; the
 * barriers, the manifest and the timer are CheckpointCoordinator's.
 *
 * A checkpoint goes through these states, one checkpoint at a time:
 *
 *   pending ──every task has acknowledged──▶ acknowledged ──the manifest is durable──▶ complete
 *      └─a task failed, timeout, the attempt ended─┴─the manifest could not be written, timeout─▶ aborted
 *
 * Invariants: ids only grow, over execution attempts and job servers too; a checkpoint is complete only after each task of its attempt
 * has acknowledged it; an attempt's end aborts what is pending.
 */
import type { Branded } from "../base/ids.ts";
import type { SnapshotFileRef } from "./snapshot-manifest.ts";

export type CheckpointId = Branded<number, "CheckpointId">;

export interface CheckpointPolicy {
  /** From one checkpoint's beginning to the next one's. */
  readonly intervalMs: number;
  /** A checkpoint that takes longer is aborted. */
  readonly timeoutMs: number;
  /** At least so long from one checkpoint's end to the next one's beginning. */
  readonly minPauseMs: number;
}

interface Running {
  readonly id: CheckpointId;
  readonly triggeredMs: number;
  readonly waitingFor: Set<string>;
  readonly files: Map<string, readonly SnapshotFileRef[]>;
}

export type Acknowledgment =
  /** Of no pending checkpoint, or of a task that has acknowledged it: to be ignored. */
  | { readonly kind: "stale" }
  | { readonly kind: "waiting" }
  /** All have: the manifest can be written. */
  | { readonly kind: "acknowledged"; readonly files: ReadonlyMap<string, readonly SnapshotFileRef[]> };

/** What is due now. */
export type Due = "nothing" | "trigger" | "timeout";

export class CheckpointSchedule {
  readonly #policy: CheckpointPolicy;
  /** Of the execution attempt; undefined while none takes checkpoints. */
  #tasks: readonly string[] | undefined;
  #running: Running | undefined;
  #lastId = 0;
  /** The next one may begin then. */
  #nextMs = 0;
  #endedMs = -Infinity;

  constructor(policy: CheckpointPolicy) {
    this.#policy = policy;
  }

  get running(): CheckpointId | undefined {
    return this.#running?.id;
  }

  /** When the running one began. */
  get triggeredMs(): number | undefined {
    return this.#running?.triggeredMs;
  }

  /** The next id is greater than this one: an earlier job server gave it away. */
  idsAbove(id: number): void {
    this.#lastId = Math.max(this.#lastId, id);
  }

  /** All tasks of a new execution attempt run. */
  begin(tasks: readonly string[], nowMs: number): void {
    this.#tasks = tasks;
    this.#running = undefined;
    this.#nextMs = nowMs + this.#policy.intervalMs;
  }

  /** The attempt has ended. */
  end(): void {
    this.#tasks = undefined;
    this.#running = undefined;
  }

  /** The next checkpoint begins as soon as the pause allows, not after the interval. */
  hurry(nowMs: number): void {
    this.#nextMs = Math.min(this.#nextMs, Math.max(nowMs, this.#endedMs + this.#policy.minPauseMs));
  }

  /** When `due` may say something else; undefined when only an event can change it. */
  get wakeMs(): number | undefined {
    if (this.#tasks === undefined) return undefined;
    return this.#running === undefined ? this.#nextMs : this.#running.triggeredMs + this.#policy.timeoutMs;
  }

  due(nowMs: number): Due {
    if (this.wakeMs === undefined || nowMs < this.wakeMs) return "nothing";
    return this.#running === undefined ? "trigger" : "timeout";
  }

  /** Begins a checkpoint, whether it is due or not. @returns undefined when one is running or there are no tasks. */
  trigger(nowMs: number): CheckpointId | undefined {
    if (this.#tasks === undefined || this.#running !== undefined) return undefined;
    const id = ++this.#lastId as CheckpointId;
    this.#running = { id, triggeredMs: nowMs, waitingFor: new Set(this.#tasks), files: new Map() };
    return id;
  }

  acknowledged(id: number, task: string, files: readonly SnapshotFileRef[]): Acknowledgment {
    const running = this.#running;
    if (running?.id !== id || !running.waitingFor.delete(task)) return { kind: "stale" };
    running.files.set(task, files);
    return running.waitingFor.size > 0 ? { kind: "waiting" } : { kind: "acknowledged", files: running.files };
  }

  /** Tasks that have not acknowledged the running checkpoint. */
  get waitingFor(): readonly string[] {
    return [...(this.#running?.waitingFor ?? [])];
  }

  /**
   * The running checkpoint is complete or aborted. @returns how long it took; undefined when it was not running any
   * more: its end counts for nothing.
   */
  ended(id: CheckpointId, nowMs: number): number | undefined {
    if (this.#running?.id !== id) return undefined;
    const { triggeredMs } = this.#running;
    this.#running = undefined;
    this.#endedMs = nowMs;
    const { intervalMs, minPauseMs } = this.#policy;
    this.#nextMs = Math.max(triggeredMs + intervalMs, nowMs + minPauseMs);
    return nowMs - triggeredMs;
  }
}
