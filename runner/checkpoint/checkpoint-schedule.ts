/**
 * When a job takes checkpoints, and what becomes of each. Pure: times and acknowledgments in, decisions out; the
 * barriers, the manifest and the timer are CheckpointCoordinator's.
 *
 * A checkpoint goes through these states, as many at once as the policy says:
 *
 *   pending ──every task has acknowledged──▶ acknowledged ──the manifest is durable──▶ complete
 *      ├─a task failed, timeout, the attempt ended─┴─the manifest could not be written, timeout─▶ aborted
 *      └─a newer one is acknowledged─▶ aborted: it has all that this one would have had
 *
 * Invariants: ids only grow, over execution attempts and job servers too; a checkpoint is complete only after each task of its attempt
 * has acknowledged it; they are acknowledged in the order of their ids; one that runs alone begins when no other runs, and none
 * begins before it has ended; an attempt's end aborts what is pending.
 *
 * Source: CheckpointRequestDecider and CheckpointCoordinator of Flink, where a complete checkpoint subsumes older ones.
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
  /** At least 1. */
  readonly maxConcurrent: number;
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
  /** All have: the manifest can be written. `subsumed` are older ones, which are pending and are to be aborted. */
  | {
      readonly kind: "acknowledged";
      readonly files: ReadonlyMap<string, readonly SnapshotFileRef[]>;
      readonly subsumed: readonly CheckpointId[];
    };

/** What is due now. */
export type Due = "nothing" | "trigger" | "timeout";

export class CheckpointSchedule {
  readonly #policy: CheckpointPolicy;
  /** Of the execution attempt; undefined while none takes checkpoints. */
  #tasks: readonly string[] | undefined;
  /** Oldest first. */
  #running: readonly Running[] = [];
  /** One runs alone, or is to begin when those that run have ended. */
  #alone = false;
  #lastId = 0;
  /** The next one may begin then. */
  #nextMs = 0;
  #endedMs = -Infinity;

  constructor(policy: CheckpointPolicy) {
    this.#policy = policy;
  }

  /** Those that have begun and not ended, oldest first. */
  get running(): readonly CheckpointId[] {
    return this.#running.map(({ id }) => id);
  }

  get isIdle(): boolean {
    return this.#running.length === 0;
  }

  /** When a running one began. */
  triggeredMs(id: CheckpointId): number | undefined {
    return this.#find(id)?.triggeredMs;
  }

  /** The next id is greater than this one: an earlier job server gave it away. */
  idsAbove(id: number): void {
    this.#lastId = Math.max(this.#lastId, id);
  }

  /** All tasks of a new execution attempt run. */
  begin(tasks: readonly string[], nowMs: number): void {
    this.end();
    this.#tasks = tasks;
    this.#nextMs = nowMs + this.#policy.intervalMs;
  }

  /** The attempt has ended. */
  end(): void {
    this.#tasks = undefined;
    this.#running = [];
    this.#alone = false;
  }

  /** The next checkpoint begins as soon as the pause allows, not after the interval. */
  hurry(nowMs: number): void {
    this.#nextMs = Math.min(this.#nextMs, Math.max(nowMs, this.#endedMs + this.#policy.minPauseMs));
  }

  /** When `due` may say something else; undefined when only an event can change it. */
  get wakeMs(): number | undefined {
    if (this.#tasks === undefined) return undefined;
    const [oldest] = this.#running;
    const timeoutMs = oldest && oldest.triggeredMs + this.#policy.timeoutMs;
    const nextMs = this.#alone || !this.#hasRoom ? undefined : this.#nextMs;
    return timeoutMs === undefined || nextMs === undefined ? (timeoutMs ?? nextMs) : Math.min(timeoutMs, nextMs);
  }

  /** A timeout is the oldest one's. */
  due(nowMs: number): Due {
    const wakeMs = this.wakeMs;
    if (wakeMs === undefined || nowMs < wakeMs) return "nothing";
    const [oldest] = this.#running;
    return oldest !== undefined && nowMs >= oldest.triggeredMs + this.#policy.timeoutMs ? "timeout" : "trigger";
  }

  /**
   * Begins a checkpoint, whether it is due or not.
   * @param alone it runs beside no other one. While another one runs nothing becomes due: this is to be asked again
   *   when they have ended
   * @returns undefined when too many are running or there are no tasks
   */
  trigger(nowMs: number, alone = false): CheckpointId | undefined {
    if (alone) this.#alone = this.#tasks !== undefined;
    if (this.#tasks === undefined || !this.#hasRoom) return undefined;
    const id = ++this.#lastId as CheckpointId;
    const begun = { id, triggeredMs: nowMs, waitingFor: new Set(this.#tasks), files: new Map() };
    this.#running = [...this.#running, begun];
    this.#nextMs = nowMs + this.#policy.intervalMs;
    return id;
  }

  get #hasRoom(): boolean {
    return this.#running.length < (this.#alone ? 1 : this.#policy.maxConcurrent);
  }

  #find(id: number): Running | undefined {
    return this.#running.find((each) => each.id === id);
  }

  acknowledged(id: number, task: string, files: readonly SnapshotFileRef[]): Acknowledgment {
    const running = this.#find(id);
    if (running?.waitingFor.delete(task) !== true) return { kind: "stale" };
    running.files.set(task, files);
    if (running.waitingFor.size > 0) return { kind: "waiting" };
    const subsumed = this.#running.filter((other) => other.id < id && other.waitingFor.size > 0);
    return { kind: "acknowledged", files: running.files, subsumed: subsumed.map((other) => other.id) };
  }

  /** Tasks that have not acknowledged a running checkpoint. */
  waitingFor(id: CheckpointId): readonly string[] {
    return [...(this.#find(id)?.waitingFor ?? [])];
  }

  /**
   * A running checkpoint is complete or aborted. @returns how long it took; undefined when it was not running any
   * more: its end counts for nothing.
   */
  ended(id: CheckpointId, nowMs: number): number | undefined {
    const running = this.#find(id);
    if (running === undefined) return undefined;
    this.#running = this.#running.filter((other) => other !== running);
    if (this.#running.length === 0) this.#alone = false;
    this.#endedMs = nowMs;
    this.#nextMs = Math.max(this.#nextMs, nowMs + this.#policy.minPauseMs);
    return nowMs - running.triggeredMs;
  }
}
