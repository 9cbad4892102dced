/**
 * Takes the checkpoints of one job: the I/O shell around CheckpointSchedule. It tells the sources' workers to emit
 * barriers, gathers the tasks' acknowledgments, writes the manifest, tells all workers how it ended, deletes what no
 * kept checkpoint needs, and finds the checkpoint to go back to.
 *
 * Invariants: workers hear `complete` only after the manifest is durable; a checkpoint whose manifest is durable is
 * gone back to even if its attempt ended in the moment in which it was written.
 */
import { isAbsolute } from "node:path";
import type { CheckpointAck, SnapshotFile } from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import type { JobId, WorkerId } from "../base/ids.ts";
import { DEFAULT_MAX_PARALLELISM } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import type { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import { CheckpointObserver } from "../checkpoint/checkpoint-observer.ts";
import { type CheckpointId, CheckpointSchedule } from "../checkpoint/checkpoint-schedule.ts";
import type { SettingsFacts } from "../checkpoint/guard-rails.ts";
import { RetainedCheckpoints } from "../checkpoint/retained-checkpoints.ts";
import type { CheckpointRecord, SnapshotFileRef, SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import type { StateTables } from "../graph/state-tables.ts";
import type { CheckpointSettings } from "./checkpoint-settings.ts";
import type { JobObserver, JobOutcome, JobRun } from "./job-executor.ts";
import type { JobWorkers } from "./job-workers.ts";
import { readWhole } from "./read-whole-checkpoint.ts";
import { type PlacedTask, type StreamingPlan, type TaskKey, taskKey } from "./streaming-plan.ts";

export interface CheckpointCoordinatorInit {
  readonly run: JobRun;
  readonly settings: CheckpointSettings;
  readonly directory: CheckpointDirectory;
  /** Of the plan, lower-case hex. */
  readonly graphFingerprint: string;
  /** What the tasks keep as rows, for readers of the manifest. */
  readonly stateTables: StateTables;
  readonly workers: JobWorkers;
  /** The job has come further than before. */
  readonly onComplete: () => void;
  readonly observer: JobObserver;
  readonly clock: Clock;
  readonly log: Log;
}

/** Where an execution attempt goes on from. */
export interface RestorePoint {
  readonly checkpointId: number;
  readonly filesOf: (key: TaskKey) => readonly SnapshotFile[];
}

/** For people. */
export interface CheckpointCounts {
  readonly completed: number;
  readonly aborted: number;
  /** Of the last complete one. */
  readonly lastDurationMs: number | undefined;
}

interface Attempt {
  readonly executionAttempt: number;
  readonly tasks: ReadonlyMap<TaskKey, PlacedTask>;
  readonly sourceWorkers: ReadonlySet<WorkerId>;
}

export class CheckpointCoordinator {
  readonly #init: CheckpointCoordinatorInit;
  readonly #jobId: JobId;
  readonly #schedule: CheckpointSchedule;
  readonly #retained: RetainedCheckpoints;
  #attempt: Attempt | undefined;
  #isRunning = false;
  readonly #observed = new CheckpointObserver();
  #timer = new AbortController();
  /** The manifest that is being written, and what is deleted after it. */
  #writing: Promise<void> = Promise.resolve();
  #restored: number | undefined;
  #isOpened = false;
  #final: { id: CheckpointId | undefined; readonly ended: () => void } | undefined;
  #counts: CheckpointCounts = { completed: 0, aborted: 0, lastDurationMs: undefined };

  constructor(init: CheckpointCoordinatorInit) {
    this.#init = init;
    this.#jobId = init.run.jobId;
    this.#schedule = new CheckpointSchedule(init.settings);
    this.#retained = new RetainedCheckpoints(init.settings.retained);
  }

  get counts(): CheckpointCounts {
    return this.#counts;
  }

  /** The checkpoint that a restart would go back to now, for people. */
  get newest(): number | undefined {
    return this.#retained.newestFirst[0]?.checkpointId;
  }

  /** Where the tasks write their files. */
  get statePath(): string {
    return this.#init.directory.statePath;
  }

  /**
   * The newest complete checkpoint that is whole; undefined when none was ever complete: then from the beginning.
   * @throws WeirError DATA_LOSS when there were some and none can be read: to begin anew would repeat results.
   */
  async restorePoint(): Promise<RestorePoint | undefined> {
    const { directory, observer } = this.#init;
    if (!this.#isOpened) await directory.open();
    this.#isOpened = true;
    await this.#writing;
    const candidates = this.#retained.newestFirst;
    if (candidates.length === 0 && this.#counts.completed === 0) return undefined;
    for (const { checkpointId } of candidates) {
      try {
        const manifest = await readWhole(this.#init, checkpointId);
        this.#restored = checkpointId;
        return restorePointOf(manifest);
      } catch (thrown) {
        if (WeirError.from(thrown).code === "UNAVAILABLE") throw thrown;
        this.#retained.damaged(checkpointId);
        observer.message("ERROR", `${WeirError.from(thrown).message} The job goes back to the checkpoint before it.`);
      }
    }
    throw new WeirError({
      code: "DATA_LOSS",
      domain: "external",
      message: `None of the checkpoints in ${directory.path} can be restored, and to start from the beginning would repeat results.`,
      hint: "Restore the directory, or submit the job again.",
    });
  }

  /**
   * Whether a task's failure is about the files that this attempt began from. If so they are not gone back to again,
   * and another attempt may succeed.
   */
  isRestoreFailure({ code, message }: { readonly code: string; readonly message: string }): boolean {
    if (this.#restored === undefined) return false;
    if (code === "UNAVAILABLE" || (code !== "DATA_LOSS" && !message.includes(this.statePath))) return false;
    this.#retained.damaged(this.#restored);
    this.#restored = undefined;
    return true;
  }

  /** A new execution attempt is deployed. Checkpoints begin with `tasksRunning`. */
  begin(executionAttempt: number, plan: StreamingPlan): void {
    const tasks = new Map(plan.tasks.map((task) => [task.key, task]));
    this.#attempt = { executionAttempt, tasks, sourceWorkers: plan.sourceWorkers };
    this.#isRunning = false;
  }

  /** Every task of the attempt can take barriers now. Idempotent. */
  tasksRunning(): void {
    if (this.#isRunning || this.#attempt === undefined) return;
    this.#isRunning = true;
    this.#restored = undefined;
    this.#warn(this.#observed.started(this.#settingsFacts()));
    this.#schedule.begin([...this.#attempt.tasks.keys()], this.#init.clock.nowMs());
    this.#arm();
  }

  /** The attempt has ended. Idempotent. */
  end(): void {
    this.#timer.abort();
    if (this.#schedule.running !== undefined) this.#count(false);
    this.#schedule.end();
    this.#attempt = undefined;
    this.#isRunning = false;
    this.#final = undefined;
  }

  /**
   * A last checkpoint of tasks that have all finished, so that what waits for one is finalized. Resolves when it has
   * ended, complete or not; never, when the attempt ends before.
   */
  finalCheckpoint(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#final = { id: undefined, ended: resolve };
    this.tasksRunning();
    this.#triggerFinal();
    return promise;
  }

  #triggerFinal(): void {
    if (this.#final !== undefined && this.#schedule.running === undefined) this.#final.id = this.#trigger();
  }

  #arm(): void {
    this.#timer.abort();
    const wakeMs = this.#schedule.wakeMs;
    if (wakeMs === undefined) return;
    const timer = new AbortController();
    this.#timer = timer;
    this.#init.clock.sleep(Math.max(0, wakeMs - this.#init.clock.nowMs()), timer.signal).then(
      () => this.#onTimer(),
      () => undefined,
    );
  }

  #onTimer(): void {
    switch (this.#schedule.due(this.#init.clock.nowMs())) {
      case "trigger":
        this.#trigger();
        break;
      case "timeout": {
        const id = this.#schedule.running;
        const names = this.#namesOf(this.#schedule.waitingFor);
        const late = names === "" ? "its manifest was not written in time" : `these tasks did not answer: ${names}`;
        if (id !== undefined) this.#abort(id, `after ${this.#init.settings.timeoutMs / 1000} s ${late}`);
        break;
      }
      case "nothing":
        this.#arm();
        break;
    }
  }

  #trigger(): CheckpointId | undefined {
    const attempt = this.#attempt;
    const checkpointId = this.#schedule.trigger(this.#init.clock.nowMs());
    if (attempt === undefined || checkpointId === undefined) return undefined;
    this.#observed.begin();
    for (const workerId of attempt.sourceWorkers)
      this.#init.workers.opened.get(workerId)?.send({
        $case: "triggerCheckpoint",
        value: {
          jobId: this.#jobId,
          executionAttempt: attempt.executionAttempt,
          checkpointId: BigInt(checkpointId),
        },
      });
    this.#arm();
    return checkpointId;
  }

  /** Acknowledgments of other attempts and checkpoints are ignored. */
  acknowledged(ack: CheckpointAck): void {
    const attempt = this.#attempt;
    if (attempt === undefined || ack.executionAttempt !== attempt.executionAttempt) return;
    const key = taskKey(ack.vertexId, ack.subtaskIndex);
    const id = this.#schedule.running;
    if (ack.failure !== "") {
      if (BigInt(id ?? -1) === ack.checkpointId && id !== undefined)
        this.#abort(id, `${this.#namesOf([key])} could not write its state: ${ack.failure}`);
      return;
    }
    const files = ack.files.map(({ path, byteLength, sha256 }): SnapshotFileRef => ({
      path,
      byteLength: Number(byteLength),
      sha256,
    }));
    this.#retained.written(Number(ack.checkpointId), files);
    const result = this.#schedule.acknowledged(Number(ack.checkpointId), key, files);
    if (result.kind !== "stale")
      this.#observed.acknowledged({
        files,
        alignmentMs: Number(ack.alignmentMs),
        commitWaitMs: Number(ack.commitWaitMs),
        writeMs: Number(ack.writeMs),
      });
    if (result.kind !== "acknowledged" || id === undefined) return;
    const manifest = this.#manifest(id, attempt, result.files as ReadonlyMap<TaskKey, readonly SnapshotFileRef[]>);
    const write = this.#write(id, manifest);
    this.#writing = Promise.all([this.#writing, write]).then(() => undefined);
  }

  #manifest(
    checkpointId: CheckpointId,
    attempt: Attempt,
    files: ReadonlyMap<TaskKey, readonly SnapshotFileRef[]>,
  ): SnapshotManifest {
    const { run, graphFingerprint, stateTables, clock } = this.#init;
    const nowMs = clock.nowMs();
    return {
      jobId: run.jobId,
      jobName: run.jobName,
      checkpointId,
      executionAttempt: attempt.executionAttempt,
      graphFingerprint,
      maxParallelism: run.settings.maxParallelism ?? DEFAULT_MAX_PARALLELISM,
      triggeredMs: this.#schedule.triggeredMs ?? nowMs,
      completedMs: nowMs,
      tasks: [...attempt.tasks.values()].map(({ key, deployment }) => ({
        vertexId: deployment.vertexId,
        subtaskIndex: deployment.subtaskIndex,
        parallelism: deployment.parallelism,
        files: [...(files.get(key) ?? [])],
      })),
      ...stateTables,
      record: this.#record(nowMs),
    };
  }

  /** How it went; what hurts is told of. */
  #record(nowMs: number): CheckpointRecord {
    const durationMs = nowMs - (this.#schedule.triggeredMs ?? nowMs);
    const { record, news } = this.#observed.complete({ ...this.#settingsFacts(), durationMs });
    this.#warn(news);
    return record;
  }

  #settingsFacts(): SettingsFacts {
    const { settings, directory, workers } = this.#init;
    return {
      intervalMs: settings.intervalMs,
      storageDirectory: isAbsolute(directory.path) ? directory.path : undefined,
      hasRemoteWorkers: [...workers.opened.values()].some((worker) => !worker.local),
    };
  }

  #warn(warnings: readonly string[]): void {
    for (const warning of warnings) this.#init.observer.message("WARNING", warning);
  }

  /** Never rejects. */
  async #write(id: CheckpointId, manifest: SnapshotManifest): Promise<void> {
    const { directory, log } = this.#init;
    try {
      await directory.write(manifest);
    } catch (thrown) {
      this.#abort(id, WeirError.from(thrown).message);
      return;
    }
    const { manifests, files } = this.#retained.completed(manifest);
    this.#ended(id, true);
    try {
      await directory.delete([...manifests.map(({ checkpointId }) => directory.manifestPath(checkpointId)), ...files]);
    } catch (thrown) {
      log.warn({ job: this.#jobId, err: thrown }, "files of earlier checkpoints could not be deleted");
    }
  }

  #abort(id: CheckpointId, reason: string): void {
    if (this.#schedule.running !== id) return;
    this.#init.observer.message("WARNING", `Checkpoint ${id} is given up: ${reason.replace(/\.$/, "")}.`);
    this.#ended(id, false);
  }

  #ended(id: CheckpointId, complete: boolean): void {
    const attempt = this.#attempt;
    const durationMs = this.#schedule.ended(id, this.#init.clock.nowMs());
    if (complete || durationMs !== undefined) this.#count(complete, durationMs);
    if (durationMs === undefined || attempt === undefined) return;
    this.#init.log.debug({ job: this.#jobId, checkpoint: id, durationMs, complete }, "checkpoint ended");
    this.#init.workers.send({
      $case: "checkpointEnd",
      value: {
        jobId: this.#jobId,
        executionAttempt: attempt.executionAttempt,
        checkpointId: BigInt(id),
        complete,
      },
    });
    if (complete) this.#init.onComplete();
    if (this.#final?.id === id) this.#final.ended();
    else if (this.#final !== undefined) this.#triggerFinal();
    else this.#arm();
  }

  #count(complete: boolean, durationMs?: number): void {
    const { completed, aborted, lastDurationMs } = this.#counts;
    this.#counts = complete
      ? { completed: completed + 1, aborted, lastDurationMs: durationMs ?? lastDurationMs }
      : { completed, aborted: aborted + 1, lastDurationMs };
  }

  #namesOf(keys: readonly string[]): string {
    const names = keys.map((key) => {
      const task = this.#attempt?.tasks.get(key as TaskKey);
      return task === undefined ? key : `subtask ${task.deployment.subtaskIndex} of ${task.vertex.name}`;
    });
    return names.length > 3 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");
  }

  /** The job is over, and its workers write no more. Its checkpoints go unless they are to outlive it. */
  async close(outcome: JobOutcome): Promise<void> {
    const { settings, directory, log } = this.#init;
    this.end();
    await this.#writing;
    const keep =
      (outcome.kind === "failed" && settings.keepWhenFailed) ||
      (outcome.kind === "cancelled" && settings.keepWhenCancelled);
    if (keep) return;
    await directory.remove().catch((thrown: unknown) => {
      log.warn({ job: this.#jobId, err: thrown }, "the checkpoints of a job that is over could not be deleted");
    });
  }
}

function restorePointOf(manifest: SnapshotManifest): RestorePoint {
  const byTask = new Map(
    manifest.tasks.map(({ vertexId, subtaskIndex, files }) => [
      taskKey(vertexId, subtaskIndex),
      files.map((file): SnapshotFile => ({ ...file, byteLength: BigInt(file.byteLength) })),
    ]),
  );
  return { checkpointId: manifest.checkpointId, filesOf: (key) => byTask.get(key) ?? [] };
}
