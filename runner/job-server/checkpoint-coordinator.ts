/**
 * Takes the checkpoints of one job: the I/O shell around CheckpointSchedule. It tells the sources' workers to emit
 * barriers, gathers the tasks' acknowledgments, writes the manifest, tells all workers how it ended, and deletes what no
 * kept checkpoint needs. RestorePoints finds the checkpoint to go back to.
 *
 * Invariants: workers hear `complete` only after the manifest is durable; manifests become durable in the order of their
 * ids; a checkpoint whose manifest is durable is gone back to even if its attempt ended in the moment in which it was
 * written; savepoints and the last checkpoint of a job run alone.
 */
import { isAbsolute } from "node:path";
import type { CheckpointAck } from "../../proto/gen/worker.ts";
import { crashPoint } from "../base/crash-points.ts";
import { WeirError } from "../base/errors.ts";
import type { JobId } from "../base/ids.ts";
import { CheckpointObserver } from "../checkpoint/checkpoint-observer.ts";
import { type CheckpointId, CheckpointSchedule } from "../checkpoint/checkpoint-schedule.ts";
import { FailureNotices, type Notice } from "../checkpoint/failure-notices.ts";
import type { SettingsFacts } from "../checkpoint/guard-rails.ts";
import { SupersededError } from "../checkpoint/leader-claim.ts";
import { RetainedCheckpoints, type Retirement } from "../checkpoint/retained-checkpoints.ts";
import type { CheckpointRecord, SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import { TolerableFailures } from "../checkpoint/tolerable-failures.ts";
import {
  attemptOf,
  type CheckpointAttempt,
  checkpointAttempt,
  filesOfAck,
  manifestOf,
  namesOf,
  reportOf,
} from "./checkpoint-attempt.ts";
import { CheckpointCleanup } from "./checkpoint-cleanup.ts";
import type { CheckpointCoordinatorInit } from "./checkpoint-coordinator-init.ts";
import type { CheckpointCounts, JobOutcome } from "./job-executor.ts";
import type { DeployedRegion } from "./region-attempts.ts";
import { type RestorePoint, RestorePoints } from "./restore-points.ts";
import { type SavepointRequest, type SavepointResult, Savepoints, savepointText } from "./savepoints.ts";
import { type StreamingPlan, taskKey } from "./streaming-plan.ts";

/** From a last checkpoint that has failed to the next attempt, at most. */
const FINAL_PAUSE_MS = 10_000;
const NO_SAVEPOINT = { savepointPath: "", savepointStops: false };

export class CheckpointCoordinator {
  readonly #init: CheckpointCoordinatorInit;
  readonly #jobId: JobId;
  readonly #schedule: CheckpointSchedule;
  readonly #retained: RetainedCheckpoints;
  readonly #restores: RestorePoints;
  #attempt: CheckpointAttempt | undefined;
  #attempts = 0;
  #isRunning = false;
  readonly #observed = new CheckpointObserver();
  readonly #notices = new FailureNotices();
  readonly #tolerable: TolerableFailures;
  #timer = new AbortController();
  readonly #cleanup: CheckpointCleanup;
  /** The manifests that are being written, and what is deleted after them. */
  #writing: Promise<void> = Promise.resolve();
  /** The manifest before is durable, or given up. */
  #manifestWritten: Promise<unknown> = Promise.resolve();
  readonly #savepoints = new Savepoints();
  #final: { id: CheckpointId | undefined; readonly ended: () => void } | undefined;
  #counts: Omit<CheckpointCounts, "lastRecord"> = { completed: 0, aborted: 0, lastDurationMs: undefined };

  constructor(init: CheckpointCoordinatorInit) {
    this.#init = init;
    this.#jobId = init.run.jobId;
    this.#schedule = new CheckpointSchedule(init.settings);
    this.#retained = new RetainedCheckpoints(init.settings.retained);
    this.#cleanup = new CheckpointCleanup(init, this.#retained);
    this.#restores = new RestorePoints(init, this.#retained);
    this.#tolerable = new TolerableFailures(init.settings.tolerableFailures);
  }

  get counts(): CheckpointCounts {
    return { ...this.#counts, lastRecord: this.#retained.newestFirst[0]?.record };
  }

  /** The checkpoint that a restart would go back to now, for people. */
  get newest(): number | undefined {
    return this.#retained.newestFirst[0]?.checkpointId;
  }

  /** Where the tasks write their files. */
  get statePath(): string {
    return this.#init.directory.statePath;
  }

  /** See RestorePoints. */
  async restorePoint(): Promise<RestorePoint | undefined> {
    const point = await this.#restores.find(this.#writing);
    this.#schedule.idsAbove(this.#restores.used.checkpointId);
    return point;
  }

  /** Execution attempts that earlier job servers have used up; known with the first restore point. */
  get attemptFloor(): number {
    return this.#restores.used.executionAttempt;
  }

  /** See RestorePoints. */
  isRestoreFailure(failure: { readonly code: string; readonly message: string }): boolean {
    return this.#restores.isRestoreFailure(failure);
  }

  /** All regions of the job are deployed, some of them anew. Checkpoints begin with `tasksRunning`. */
  begin(plan: StreamingPlan, regions: readonly DeployedRegion[]): void {
    this.#attempts++;
    this.#attempt = checkpointAttempt(plan, regions);
    this.#isRunning = false;
  }

  /** Every task of the job can take barriers now. Idempotent. */
  tasksRunning(): void {
    if (this.#isRunning || this.#attempt === undefined) return;
    this.#isRunning = true;
    this.#restores.restored();
    this.#warn(this.#observed.started(this.#settingsFacts()));
    this.#schedule.begin([...this.#attempt.tasks.keys()], this.#init.clock.nowMs());
    this.#arm();
  }

  /**
   * A savepoint, after the checkpoints that run now. With `stop` the tasks stand still behind it, and it is the caller's to end
   * the job.
   * @throws WeirError when it cannot be taken now, or why it was given up: then the job goes on
   */
  savepoint(request: SavepointRequest): Promise<SavepointResult> {
    if (!this.#isRunning || this.#final !== undefined)
      throw new WeirError({
        code: "FAILED_PRECONDITION",
        domain: "external",
        message: `Job ${this.#jobId} cannot have a savepoint now: ${this.#isRunning ? "all of its input is processed, and it ends" : "its tasks are being started"}.`,
        retry: !this.#isRunning,
        ...(this.#isRunning ? {} : { hint: "Ask again in a moment." }),
      });
    return this.#savepoints.take(request, () => this.#triggerNext());
  }

  /** The savepoint that waits, if there is one, as soon as no checkpoint runs. @returns whether there is */
  #triggerNext(): boolean {
    if (this.#savepoints.waiting === undefined || this.#final !== undefined || !this.#isRunning) return false;
    this.#trigger("savepoint");
    return true;
  }

  /**
   * The execution attempt of some regions has ended, the other ones' tasks go on: checkpoints that miss an acknowledgment are
   * given up, and none begins before `begin`. Idempotent.
   */
  interrupt(): void {
    this.#savepoints.failed("tasks of the job ended before it was complete.");
    this.#isRunning = false;
    this.#final = undefined;
    for (const id of this.#schedule.running) if (this.#schedule.waitingFor(id).length > 0) this.#ended(id, false);
    this.#timer.abort();
  }

  /** The execution attempt of every region has ended. Idempotent. */
  end(): void {
    this.#timer.abort();
    this.#savepoints.failed("the job's tasks ended before it was complete.");
    for (const id of this.#schedule.running) {
      this.#count(false);
      this.#observed.gaveUp(id);
    }
    this.#schedule.end();
    this.#attempt = undefined;
    this.#isRunning = false;
    this.#final = undefined;
  }

  /**
   * A last checkpoint of tasks that have all finished, so that what waits for one is finalized. Resolves when it is
   * complete, at whatever attempt; never, when the execution attempt ends before.
   */
  finalCheckpoint(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#final = { id: undefined, ended: resolve };
    this.tasksRunning();
    this.#triggerFinal();
    return promise;
  }

  /** Something waits for nothing but a checkpoint: the next one does not wait for the interval. */
  hurry(): void {
    if (!this.#schedule.isIdle || this.#final !== undefined || !this.#isRunning) return;
    this.#schedule.hurry(this.#init.clock.nowMs());
    this.#arm();
  }

  #triggerFinal(): void {
    if (this.#final !== undefined) this.#final.id = this.#trigger("final");
  }

  #arm(): void {
    this.#timer.abort();
    const wakeMs = this.#isRunning ? this.#schedule.wakeMs : undefined;
    if (wakeMs !== undefined) this.#wake(Math.max(0, wakeMs - this.#init.clock.nowMs()), () => this.#onTimer());
  }

  /** In the place of what was to come. */
  #wake(delayMs: number, act: () => void): void {
    this.#timer.abort();
    const timer = new AbortController();
    this.#timer = timer;
    this.#init.clock.sleep(delayMs, timer.signal).then(act, () => undefined);
  }

  #onTimer(): void {
    switch (this.#schedule.due(this.#init.clock.nowMs())) {
      case "trigger":
        this.#trigger();
        break;
      case "timeout": {
        const [id] = this.#schedule.running;
        if (id === undefined) break;
        const names = namesOf(this.#attempt, this.#schedule.waitingFor(id));
        const late = names === "" ? "its manifest was not written in time" : `these tasks did not answer: ${names}`;
        this.#abort(id, `after ${this.#init.settings.timeoutMs / 1000} s ${late}`);
        break;
      }
      case "nothing":
        this.#arm();
        break;
    }
  }

  #trigger(kind: "periodic" | "savepoint" | "final" = "periodic"): CheckpointId | undefined {
    const attempt = this.#attempt;
    const isSavepoint = kind === "savepoint";
    const checkpointId = this.#schedule.trigger(this.#init.clock.nowMs(), kind !== "periodic");
    if (attempt === undefined || checkpointId === undefined) return undefined;
    this.#observed.begin(checkpointId);
    const overtakesAfterMs = isSavepoint ? undefined : this.#init.settings.overtakesAfterMs;
    const savepoint = isSavepoint ? this.#savepoints.began(checkpointId) : NO_SAVEPOINT;
    for (const { sourceWorkers, executionAttempt } of attempt.regions)
      for (const workerId of sourceWorkers)
        this.#init.workers.opened.get(workerId)?.send({
          $case: "triggerCheckpoint",
          value: {
            jobId: this.#jobId,
            executionAttempt,
            checkpointId: BigInt(checkpointId),
            overtakesAfterMs: overtakesAfterMs === undefined ? undefined : BigInt(overtakesAfterMs),
            ...savepoint,
          },
        });
    this.#arm();
    return checkpointId;
  }

  /** Acknowledgments of other attempts and checkpoints are ignored. */
  acknowledged(ack: CheckpointAck): void {
    const attempt = this.#attempt;
    if (attempt === undefined || ack.executionAttempt !== attemptOf(attempt, ack.vertexId)) return;
    const key = taskKey(ack.vertexId, ack.subtaskIndex);
    const id = this.#schedule.running.find((each) => BigInt(each) === ack.checkpointId);
    if (ack.failure !== "") {
      if (id !== undefined)
        this.#abort(id, `${namesOf(this.#attempt, [key])} could not write its state: ${ack.failure}`);
      return;
    }
    const files = filesOfAck(ack);
    this.#retained.written(Number(ack.checkpointId), files);
    if (id === undefined) return;
    const result = this.#schedule.acknowledged(id, key, files);
    if (result.kind !== "stale") this.#observed.acknowledged(id, reportOf(attempt, ack, files));
    if (result.kind !== "acknowledged") return;
    for (const older of result.subsumed) this.#ended(older, false);
    const completedMs = this.#init.clock.nowMs();
    const triggeredMs = this.#schedule.triggeredMs(id) ?? completedMs;
    const manifest = manifestOf(this.#init, attempt, {
      checkpointId: id,
      triggeredMs,
      completedMs,
      files: result.files,
      record: this.#record(id, completedMs - triggeredMs),
    });
    const written = this.#manifestWritten.then(() => this.#write(id, manifest));
    this.#manifestWritten = written;
    const cleaned = written.then((retired) => retired && this.#cleanup.delete(retired, attempt));
    this.#writing = Promise.all([this.#writing, cleaned]).then(() => undefined);
  }

  /** How it went; what hurts is told of. */
  #record(id: CheckpointId, durationMs: number): CheckpointRecord {
    const { record, news } = this.#observed.complete(id, { ...this.#settingsFacts(), durationMs });
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

  /** Never rejects. @returns what can be deleted, when the checkpoint is complete */
  async #write(id: CheckpointId, manifest: SnapshotManifest): Promise<Retirement | undefined> {
    const { directory, observer } = this.#init;
    try {
      await observer.keepCopy(directory);
      crashPoint("before-manifest");
      await directory.write(manifest);
      crashPoint("after-manifest");
    } catch (thrown) {
      this.#abort(id, WeirError.from(thrown).message);
      if (thrown instanceof SupersededError) this.#init.onSuperseded(thrown.message);
      return undefined;
    }
    const retired = this.#retained.completed(manifest);
    this.#tell(this.#notices.completed(id));
    this.#tolerable.completed(id);
    const savepoint = await this.#savepoints.complete(manifest);
    if (savepoint !== undefined) this.#tell({ importance: "BASIC", text: savepointText(savepoint) });
    this.#ended(id, true, savepoint?.stop);
    // Who asked for it may end the job: the workers know by now what to finalize.
    savepoint?.tell();
    return retired;
  }

  #abort(id: CheckpointId, reason: string): void {
    if (!this.#schedule.running.includes(id)) return;
    this.#tell(this.#notices.failed(id, reason, this.#init.clock.nowMs()));
    const intolerable = this.#savepoints.is(id) ? undefined : this.#tolerable.failed(id, reason);
    if (this.#savepoints.is(id)) this.#savepoints.failed(reason);
    this.#ended(id, false);
    if (intolerable !== undefined) this.#init.onIntolerable(intolerable);
  }

  #tell(notice: Notice | undefined): void {
    if (notice !== undefined) this.#init.observer.message(notice.importance, notice.text);
  }

  /** @param stop the job ends with it */
  #ended(id: CheckpointId, complete: boolean, stop = false): void {
    const attempt = this.#attempt;
    const durationMs = this.#schedule.ended(id, this.#init.clock.nowMs());
    if (complete || durationMs !== undefined) this.#count(complete, durationMs);
    if (!complete) this.#observed.gaveUp(id);
    if (durationMs === undefined || attempt === undefined) return;
    this.#init.log.debug({ job: this.#jobId, checkpoint: id, durationMs, complete }, "checkpoint ended");
    for (const { byWorker, executionAttempt } of attempt.regions)
      for (const workerId of byWorker.keys())
        this.#init.workers.opened.get(workerId)?.send({
          $case: "checkpointEnd",
          value: { jobId: this.#jobId, executionAttempt, checkpointId: BigInt(id), complete, stop },
        });
    if (complete) this.#init.onComplete();
    if (stop) {
      this.#timer.abort();
      return;
    }
    const final = this.#final;
    // Others have their time limits, and no other kind begins beside them.
    if (!this.#schedule.isIdle) this.#arm();
    else if (final === undefined) {
      if (!this.#triggerNext()) this.#arm();
    } else if (final.id === id && complete) final.ended();
    else if (final.id === undefined) this.#triggerFinal();
    // What waits for it is finalized by nothing else: it is tried again.
    else this.#wake(Math.min(this.#init.settings.intervalMs, FINAL_PAUSE_MS), () => this.#triggerFinal());
  }

  #count(complete: boolean, durationMs?: number): void {
    const { completed, aborted, lastDurationMs } = this.#counts;
    this.#counts = complete
      ? { completed: completed + 1, aborted, lastDurationMs: durationMs ?? lastDurationMs }
      : { completed, aborted: aborted + 1, lastDurationMs };
  }

  /** The job is over, and its workers write no more. Its checkpoints go unless they are to outlive it. */
  async close(outcome: JobOutcome): Promise<void> {
    const { settings, directory, removals } = this.#init;
    this.end();
    await this.#writing;
    const keep =
      outcome.kind === "suspended" ||
      (outcome.kind === "failed" && settings.keepWhenFailed) ||
      (outcome.kind === "cancelled" && settings.keepWhenCancelled);
    if (keep) return;
    await removals.remove(directory, this.#attempts > 1);
  }
}
