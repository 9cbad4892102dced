/**
 * How much a channel should hold: what its consumer takes in a short time, as it has been measured. What waits in
 * channels is what an aligned barrier waits for, and what an unaligned one puts into the snapshot; more of it than keeps
 * the consumer busy is good for nothing.
 *
 * Source: buffer debloating of Flink (FLIP-183), which sizes buffers by throughput; here the time is much shorter, since
 * a producer does not wait for memory to come back but for its turn in an event loop.
 */
import type { Clock } from "../../base/clock.ts";

/** What a consumer takes in it is enough to keep it busy while its producers are woken and run a bundle. */
const TARGET_MS = 25;
/** Of time in which something waited: less is chance. */
const PERIOD_MS = 100;
/** A few hundred elements. */
const MIN_BYTES = 16 * 1024;
/** Before anything was measured. */
const FIRST_BYTES = 512 * 1024;
/** Of a new measurement against those before it. */
const WEIGHT = 0.5;

export class BufferDebloat {
  readonly #maxBytes: number;
  readonly #clock: Pick<Clock, "monotonicMs">;
  #capacityBytes: number;
  #bytesPerMs: number | undefined;
  /** Since when something waits; undefined: nothing does. */
  #busySinceMs: number | undefined;
  #busyMs = 0;
  #takenBytes = 0;

  /** @param maxBytes whatever was measured */
  constructor(maxBytes: number, clock: Pick<Clock, "monotonicMs">) {
    this.#maxBytes = maxBytes;
    this.#clock = clock;
    this.#capacityBytes = Math.min(maxBytes, FIRST_BYTES);
  }

  get capacityBytes(): number {
    return this.#capacityBytes;
  }

  /** Something was put in where nothing was. */
  filled(): void {
    this.#busySinceMs = this.#clock.monotonicMs();
  }

  /** So many bytes were taken out. @param isEmpty nothing is left */
  taken(bytes: number, isEmpty: boolean): void {
    const nowMs = this.#clock.monotonicMs();
    this.#takenBytes += bytes;
    this.#busyMs += nowMs - (this.#busySinceMs ?? nowMs);
    this.#busySinceMs = isEmpty ? undefined : nowMs;
    if (this.#busyMs < PERIOD_MS) return;
    const measured = this.#takenBytes / this.#busyMs;
    this.#bytesPerMs =
      this.#bytesPerMs === undefined ? measured : this.#bytesPerMs + (measured - this.#bytesPerMs) * WEIGHT;
    this.#takenBytes = 0;
    this.#busyMs = 0;
    this.#capacityBytes = Math.round(Math.min(this.#maxBytes, Math.max(MIN_BYTES, this.#bytesPerMs * TARGET_MS)));
  }
}
