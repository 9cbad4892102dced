/**
 * Which cells of a state expire when: for each time after which windows are dead, the cells of those windows. It lives
 * in memory only and is rebuilt from the rows. Cells of the global window are not in it: the job ends with them.
 */
import type { Timestamp } from "../../time/timestamp.ts";

/** A window's maximum timestamp, from its bytes. */
export type MaxTimestampOf = (window: Uint8Array) => Timestamp;

export class WindowExpiry {
  readonly #maxTimestampOf: MaxTimestampOf;
  readonly #allowedLatenessMs: number;
  readonly #cells = new Map<number, Set<string>>();
  /** The times of `#cells`, a binary heap with the least first; emptied times stay until they are due. */
  readonly #times: number[] = [];

  constructor(maxTimestampOf: MaxTimestampOf, allowedLatenessMs: number) {
    this.#maxTimestampOf = maxTimestampOf;
    this.#allowedLatenessMs = allowedLatenessMs;
  }

  /** @param isThere whether the cell holds anything. Idempotent. */
  note(cell: string, window: Uint8Array, isThere: boolean): void {
    const time = this.#maxTimestampOf(window) + this.#allowedLatenessMs;
    let cells = this.#cells.get(time);
    if (cells === undefined) {
      if (!isThere) return;
      this.#cells.set(time, (cells = new Set()));
      this.#push(time);
    }
    if (isThere) cells.add(cell);
    else cells.delete(cell);
  }

  /** Takes out the cells of windows that the watermark has passed for good. */
  *takeExpired(watermark: Timestamp): Iterable<string> {
    for (let time = this.#times[0]; time !== undefined && time < watermark; time = this.#times[0]) {
      this.#popLeast();
      const cells = this.#cells.get(time);
      this.#cells.delete(time);
      if (cells !== undefined) yield* cells;
    }
  }

  #push(time: number): void {
    const times = this.#times;
    let at = times.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((times[parent] as number) <= time) break;
      times[at] = times[parent] as number;
      at = parent;
    }
    times[at] = time;
  }

  #popLeast(): void {
    const times = this.#times;
    const last = times.pop() as number;
    if (times.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= times.length) break;
      if (child + 1 < times.length && (times[child + 1] as number) < (times[child] as number)) child++;
      if ((times[child] as number) >= last) break;
      times[at] = times[child] as number;
      at = child;
    }
    times[at] = last;
  }
}
