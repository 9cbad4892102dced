/**
 * Lets a TestStream emit its next event whenever the job is quiet: asks the workers round by round, a round at a time,
 * and tells the TestStream's worker to go on. One driver for one execution attempt.
 *
 * Invariants: a round begins after the last answer of the round before; what changes processing time is passed on to
 * all workers before the next round begins, and the round that it fell into counts for nothing.
 */
import type { CoordinatorMessage, StreamProbeReply } from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import type { JobId, WorkerId } from "../base/ids.ts";
import { type ProbeAnswer, QuiescenceDetector } from "./quiescence.ts";

export interface TestStreamDriverInit {
  readonly jobId: JobId;
  readonly executionAttempt: number;
  /** Workers that run tasks of the job. */
  readonly workers: readonly TestStreamWorker[];
  /** Those of them that run a TestStream. */
  readonly testStreamWorkers: ReadonlySet<WorkerId>;
  readonly clock: Clock;
}

export interface TestStreamWorker {
  readonly workerId: WorkerId;
  send(message: NonNullable<CoordinatorMessage["message"]>): void;
}

const MIN_PAUSE_MS = 1;
const MAX_PAUSE_MS = 50;
/** The pause is this part of the time that the job has been busy: waiting costs at most so much on top. */
const PAUSE_PART = 1 / 8;

export class TestStreamDriver {
  readonly #init: TestStreamDriverInit;
  readonly #detector = new QuiescenceDetector();
  readonly #abort = new AbortController();
  #probeId = 0;
  #answers = new Map<WorkerId, ProbeAnswer>();
  #roundEnded: (() => void) | undefined;
  /** Processing time was set during this round. */
  #isDisturbed = false;

  constructor(init: TestStreamDriverInit) {
    this.#init = init;
  }

  /** Probes until `close`. Never rejects. */
  async run(): Promise<void> {
    const { clock, jobId, executionAttempt, workers, testStreamWorkers } = this.#init;
    const { signal } = this.#abort;
    let busySinceMs = clock.monotonicMs();
    while (!signal.aborted) {
      const answers = await this.#askAll();
      if (signal.aborted) return;
      const found = this.#isDisturbed ? "still" : this.#detector.round(answers);
      if (found === "still") continue;
      if (found === "quiet") {
        for (const worker of workers)
          if (testStreamWorkers.has(worker.workerId))
            worker.send({ $case: "advanceTestStream", value: { jobId, executionAttempt } });
        busySinceMs = clock.monotonicMs();
        continue;
      }
      const busyMs = clock.monotonicMs() - busySinceMs;
      const pauseMs = Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, busyMs * PAUSE_PART));
      await clock.sleep(pauseMs, signal).catch(() => undefined);
    }
  }

  #askAll(): Promise<readonly ProbeAnswer[]> {
    const { jobId, executionAttempt, workers } = this.#init;
    const ended = Promise.withResolvers<readonly ProbeAnswer[]>();
    const probeId = BigInt(++this.#probeId);
    this.#answers = new Map();
    this.#isDisturbed = false;
    this.#roundEnded = () => ended.resolve([...this.#answers.values()]);
    for (const worker of workers) worker.send({ $case: "streamProbe", value: { jobId, executionAttempt, probeId } });
    return ended.promise;
  }

  /** Replies to other rounds and attempts are dropped. */
  replied(workerId: WorkerId, reply: StreamProbeReply): void {
    if (reply.executionAttempt !== this.#init.executionAttempt || reply.probeId !== BigInt(this.#probeId)) return;
    this.#answers.set(workerId, { ...reply, workerId });
    if (this.#answers.size === this.#init.workers.length) this.#roundEnded?.();
  }

  /** A TestStream has set processing time. */
  setProcessingTime(nowMs: bigint): void {
    const { jobId, executionAttempt, workers } = this.#init;
    this.#isDisturbed = true;
    this.#detector.disturbed();
    for (const worker of workers)
      worker.send({ $case: "setProcessingTime", value: { jobId, executionAttempt, nowMs } });
  }

  /** Idempotent. */
  close(): void {
    this.#abort.abort();
    this.#roundEnded?.();
  }
}
