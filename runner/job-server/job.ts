/**
 * A job from Run to its terminal state: moves it through the state table, writes what happens to the store before
 * telling subscribers, and turns the executor's outcome into the last message and state.
 *
 * Invariant: of a failed job the ERROR message that says why is the last message before FAILED, since that is what the
 * stock client raises.
 */
import type { Clock } from "../base/clock.ts";
import type { JobId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { JobEventWriter } from "./job-event-writer.ts";
import { boundedText, type JobEvent, JobEventLog, storedEvent } from "./job-event-log.ts";
import type { CopyDirectory, JobExecutor, JobObserver, JobOutcome, JobRun, MessageImportance } from "./job-executor.ts";
import type { JobCopy } from "./job-copy.ts";
import { encodeJobMetrics, NO_METRICS } from "./job-metrics.ts";
import { assertTransition, isTerminal, type JobState } from "./job-state.ts";
import type { JobStore, JobSummary } from "./job-store.ts";

export interface JobInit {
  readonly summary: JobSummary;
  /** What an earlier server stored of a job that goes on. */
  readonly history?: readonly JobEvent[];
  readonly store: JobStore;
  /** Of a job whose checkpoints are not on the disk of its job server. */
  readonly copy?: JobCopy | undefined;
  /** Text of its messages that is kept. */
  readonly messageBytes: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** Checkpoints may follow each other quickly, and metrics are many bytes. */
const STORE_METRICS_INTERVAL_MS = 1_000;
/** Of messages in the copy of a job; each copy has all of them. */
const MAX_COPIED_TEXT_LENGTH = 256 * 1024;

export class Job implements JobObserver {
  readonly jobId: JobId;
  readonly events: JobEventLog;
  readonly #summary: JobSummary;
  readonly #store: JobStore;
  readonly #copy: JobCopy | undefined;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #finished = Promise.withResolvers<void>();
  #state: JobState;
  #metrics: Uint8Array;
  /** In this process. */
  #isCheckpointed = false;
  #metricsStoredMs = -Infinity;
  readonly #writer: JobEventWriter;
  readonly #stored = Promise.withResolvers<void>();

  constructor(init: JobInit) {
    this.events = new JobEventLog(init.messageBytes, init.history);
    this.#summary = init.summary;
    this.#store = init.store;
    this.#copy = init.copy;
    this.#clock = init.clock;
    this.#log = init.log.child({ job: init.summary.jobId });
    this.jobId = init.summary.jobId;
    this.#state = init.summary.state;
    this.#metrics = this.#store.metrics(this.jobId) ?? NO_METRICS;
    const { events, jobId } = this;
    const { store, clock } = init;
    const onRefused = (reason: string) =>
      this.message(
        "WARNING",
        `The job's history cannot be stored in the job server's data directory: ${reason}. It is kept in memory until it can be: make room there.`,
      );
    const onStoredAgain = () => {
      if (isTerminal(this.#state)) this.#endStored();
    };
    this.#writer = new JobEventWriter({ jobId, events, store, onRefused, onStoredAgain, clock, log: this.#log });
    if (init.history !== undefined) return;
    this.#append({ kind: "state", ...this.#stamp(), state: this.#state });
    this.#writer.flush();
  }

  get state(): JobState {
    return this.#state;
  }

  get summary(): JobSummary {
    return { ...this.#summary, state: this.#state };
  }

  /** Encoded GetJobMetricsResponse. */
  get encodedMetrics(): Uint8Array {
    return this.#metrics;
  }

  /** Resolves when the job is terminal. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  /** Runs it to its end; never rejects. */
  async run(executor: JobExecutor, run: JobRun): Promise<void> {
    if (this.#state === "STOPPED") this.#transition("STARTING");
    let outcome: JobOutcome;
    try {
      outcome = await executor.execute(run, this);
    } catch (thrown) {
      this.#log.error({ err: thrown }, "the executor threw");
      outcome = {
        kind: "failed",
        message: `Weir failed: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      };
    }
    if (outcome.kind !== "suspended") await this.#copy?.ended();
    this.finish(outcome);
  }

  /** The terminal state for an outcome. Does nothing when the job is terminal already. */
  finish(outcome: JobOutcome): void {
    if (isTerminal(this.#state)) return;
    switch (outcome.kind) {
      case "done":
        this.#transition("DONE");
        break;
      case "drained":
        this.#transition("DRAINED");
        break;
      case "failed":
        if (this.#state === "CANCELLING") {
          this.message("WARNING", outcome.message);
          this.#transition("CANCELLED");
        } else {
          this.message("ERROR", outcome.message);
          this.#log.error(`the job has failed\n${outcome.message}`);
          this.#transition("FAILED");
        }
        break;
      case "cancelled":
        this.cancelling();
        this.#transition("CANCELLED");
        break;
      case "suspended":
        // In its store and for its clients it is as it was: streams that have no end break with the server.
        try {
          this.#store.forgetTakeUps(this.jobId);
        } catch (thrown) {
          this.#log.error({ err: thrown }, "the end of the server counts as the job's doing");
        }
        return;
    }
    this.#finished.resolve();
  }

  /** Goes to CANCELLING unless the job is there or terminal. @returns true when it did. */
  cancelling(): boolean {
    if (isTerminal(this.#state) || this.#state === "CANCELLING" || this.#state === "STOPPED") return false;
    this.#transition("CANCELLING");
    return true;
  }

  /** Goes to DRAINING, if it runs. @returns true when it did. */
  draining(): boolean {
    if (this.#state !== "RUNNING") return false;
    this.#transition("DRAINING");
    return true;
  }

  running(): void {
    if (this.#state === "STARTING") this.#transition("RUNNING");
  }

  keepCopy(directory: CopyDirectory): Promise<void> {
    return this.#copy?.store(directory) ?? Promise.resolve();
  }

  formerlyCheckpointed(): void {
    if (!isTerminal(this.#state)) this.#store.setFormerlyCheckpointed(this.jobId);
  }

  checkpointed(): void {
    if (isTerminal(this.#state)) return;
    this.#copy?.tell(() => ({
      events: this.events.tail(MAX_COPIED_TEXT_LENGTH).map(storedEvent),
      metrics: this.#metrics,
    }));
    const nowMs = this.#clock.monotonicMs();
    try {
      if (!this.#isCheckpointed) this.#store.setCheckpointed(this.jobId);
      this.#isCheckpointed = true;
      if (nowMs - this.#metricsStoredMs < STORE_METRICS_INTERVAL_MS) return;
      this.#metricsStoredMs = nowMs;
      this.#store.setMetrics(this.jobId, this.#metrics);
    } catch (thrown) {
      // The manifest says so too.
      this.#log.error({ err: thrown }, "a complete checkpoint could not be noted");
    }
  }

  message(importance: MessageImportance, text: string): void {
    if (isTerminal(this.#state)) return;
    this.#append({ kind: "message", ...this.#stamp(), importance, text: boundedText(text) });
  }

  metrics(attempted: readonly Uint8Array[], committed: readonly Uint8Array[]): void {
    if (!isTerminal(this.#state)) this.#metrics = encodeJobMetrics(attempted, committed);
  }

  #transition(state: JobState): void {
    assertTransition(this.#state, state);
    this.#state = state;
    this.#log.info({ state }, "job state");
    const event: JobEvent = { kind: "state", ...this.#stamp(), state };
    const terminal = isTerminal(state);
    // Durable first, then told.
    const isStored = this.#writer.flush(event);
    this.events.append(event);
    if (!terminal) return;
    this.events.end();
    if (isStored) this.#endStored();
  }

  #stamp(): { sequence: number; timeMs: number } {
    return { sequence: this.events.nextSequence, timeMs: this.#clock.nowMs() };
  }

  #append(event: JobEvent): void {
    this.#writer.appended(this.events.append(event));
  }

  #endStored(): void {
    try {
      this.#store.setMetrics(this.jobId, this.#metrics);
    } catch (thrown) {
      this.#log.error({ err: thrown }, "the job's metrics could not be stored");
    }
    this.#stored.resolve();
  }

  /** Resolves when the job is terminal and its end is in the store, or never will be. */
  get stored(): Promise<void> {
    return this.#stored.promise;
  }

  /** The server ends: what is not stored is tried once more. Idempotent. */
  close(): void {
    this.#writer.close();
    this.#stored.resolve();
  }
}
