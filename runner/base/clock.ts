/**
 * The only source of time and chance. Everything else is handed a Clock or a Random, so that tests and simulation
 * never sleep and every run can be replayed.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleepFor } from "node:timers/promises";

export interface Clock {
  /** Milliseconds since 1970-01-01 UTC. */
  nowMs(): number;
  /** Monotonic milliseconds, for durations. */
  monotonicMs(): number;
  /** Resolves after `delayMs`. Rejects with the signal's reason when it is aborted first. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (delayMs, signal) => sleepFor(delayMs, undefined, signal === undefined ? {} : { signal }),
};

/** From 0 to 1. */
export function chance(): number {
  return Math.random();
}

/** A random UUID. */
export function randomId(): string {
  return randomUUID();
}

/** `byteLength` random bytes as lower-case hex. */
export function randomHex(byteLength: number): string {
  return randomBytes(byteLength).toString("hex");
}
