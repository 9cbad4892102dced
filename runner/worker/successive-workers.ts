/**
 * Keeps a worker registered with a job server that goes away and comes back: one worker after the other, each with an
 * id of its own, since the next job server knows nothing of what the last one ran. What the former worker ran is over
 * before the next one registers.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Worker } from "./worker.ts";

type OpenedWorker = Pick<Worker, "ended" | "wasRegistered" | "close">;

export interface SuccessiveWorkersInit {
  /** @param ordinal from 0 */
  readonly open: (ordinal: number) => Promise<OpenedWorker>;
  /** Resolves with the reason when the process is to end. */
  readonly stop: Promise<string>;
  /** So long without a job server, and it ends; 0: with its first job server. */
  readonly reconnectMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

const FIRST_DELAY_MS = 200;
const MAX_DELAY_MS = 5_000;

/** @returns why it has ended */
export async function runSuccessiveWorkers(init: SuccessiveWorkersInit): Promise<string> {
  const { open, stop, reconnectMs, clock, log } = init;
  let isStopped = false;
  const stopped = stop.then((reason) => {
    isStopped = true;
    return reason;
  });
  let delayMs = FIRST_DELAY_MS;
  let lastRegisteredMs = clock.monotonicMs();
  for (let ordinal = 0; ; ordinal++) {
    const worker = await open(ordinal);
    let reason: string;
    try {
      reason = await Promise.race([stopped, worker.ended]);
      if (worker.wasRegistered) {
        delayMs = FIRST_DELAY_MS;
        lastRegisteredMs = clock.monotonicMs();
      }
    } finally {
      await worker.close();
    }
    if (isStopped || reconnectMs === 0) return reason;
    const goneMs = clock.monotonicMs() - lastRegisteredMs;
    if (goneMs + delayMs > reconnectMs) return `${reason}; it was waited for ${Math.round(goneMs / 1000)} s`;
    log.warn({ reason, delayMs }, "the worker waits for a job server");
    const timer = new AbortController();
    await Promise.race([stopped, clock.sleep(delayMs, timer.signal).catch(() => undefined)]);
    timer.abort();
    if (isStopped) return await stopped;
    delayMs = Math.min(delayMs * 2, MAX_DELAY_MS);
  }
}
