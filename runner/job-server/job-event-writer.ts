/**
 * Puts a job's events into the store, in batches. A store that refuses, such as one on a full disk, ends no job: what it
 * lacks stays in the job's log, which is bounded, and is written when there is room again.
 *
 * Invariant: events come into the store in order, each once; of those that the log dropped meanwhile none.
 */
import type { Clock } from "../base/clock.ts";
import type { JobId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { JobEvent, JobEventLog } from "./job-event-log.ts";
import type { JobStore } from "./job-store.ts";

export interface JobEventWriterInit {
  readonly jobId: JobId;
  readonly events: JobEventLog;
  readonly store: Pick<JobStore, "appendEvents">;
  /** The store refuses, for the first time since it did not. Called later, never from within a call. */
  readonly onRefused: (reason: string) => void;
  /** It has taken everything, after it refused. */
  readonly onStoredAgain: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Messages that wait for their batch to be written. */
const MAX_UNWRITTEN = 500;
const RETRY_MS = 5_000;

export class JobEventWriter {
  readonly #init: JobEventWriterInit;
  readonly #closed = new AbortController();
  #storedThrough: number;
  #keptFrom: number | undefined;
  #isScheduled = false;
  #isRefused = false;

  /** What the log has already is in the store. */
  constructor(init: JobEventWriterInit) {
    this.#init = init;
    this.#storedThrough = init.events.nextSequence - 1;
  }

  /** The log has one more. @param keptFrom as the log said: messages below it are dropped */
  appended(keptFrom: number | undefined): void {
    this.#keptFrom = keptFrom ?? this.#keptFrom;
    if (this.#isRefused) return;
    if (this.#init.events.nextSequence - this.#storedThrough > MAX_UNWRITTEN) this.flush();
    else this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      // A store that is closed has had its last flush with the terminal state.
      if (this.#storedThrough < this.#init.events.nextSequence - 1) this.flush();
    });
  }

  /**
   * Writes what the store lacks, and one more that the log does not have yet.
   * @returns false when the store refuses: it is tried again
   */
  flush(next?: JobEvent): boolean {
    const { jobId, events, store, onRefused, onStoredAgain, log } = this.#init;
    const unwritten = [...events.after(this.#storedThrough), ...(next === undefined ? [] : [next])];
    const last = unwritten.at(-1);
    if (last === undefined) return true;
    try {
      store.appendEvents(jobId, unwritten, this.#keptFrom);
      this.#storedThrough = last.sequence;
      this.#keptFrom = undefined;
      if (!this.#isRefused) return true;
      this.#isRefused = false;
      log.info({ events: unwritten.length }, "the job's history is stored again");
      onStoredAgain();
      return true;
    } catch (thrown) {
      if (this.#isRefused) return false;
      this.#isRefused = true;
      log.error({ err: thrown }, "the job's history cannot be stored: it is kept in memory, and tried again");
      this.#retry();
      setImmediate(() => onRefused((thrown as Error).message));
      return false;
    }
  }

  #retry(): void {
    const again = async () => {
      while (this.#isRefused) {
        await this.#init.clock.sleep(RETRY_MS, this.#closed.signal);
        this.flush();
      }
    };
    again().catch(() => undefined);
  }

  /** A last attempt; what the store lacks then is lost with the process. Idempotent. */
  close(): void {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    if (!this.flush()) this.#init.log.error("the end of the job's history could not be stored, and is lost");
  }
}
