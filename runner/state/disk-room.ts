/**
 * Waits for room on a full disk: whatever is kept on disk since it does not fit into memory stands still until there is
 * some, rather than fail its job. One for each process, since all that spill share the disk.
 *
 * Invariant: nobody waits for longer than the limit, or for a file that is closed.
 */
import { mkdirSync, statfsSync } from "node:fs";
import { type Clock, systemClock } from "../base/clock.ts";
import { spillFailure } from "./spill-failure.ts";

export interface DiskNews {
  readonly directory: string;
  /** False: there is room again. */
  readonly isFull: boolean;
  /** So long it is waited for. */
  readonly limitMs: number;
}

/** Free bytes of the disk that holds the directory. */
export type FreeBytes = (directory: string) => number;

/** Time for somebody, or for jobs that end, to free some; not so long that a job on a disk too small seems to hang. */
const DEFAULT_LIMIT_MS = 30_000;
const POLL_MS = 500;

export class DiskRoom {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #freeBytes: FreeBytes;
  readonly #listeners = new Set<(news: DiskNews) => void>();
  /** Who waits, by directory. */
  readonly #waiting = new Map<string, number>();

  constructor(limitMs = DEFAULT_LIMIT_MS, clock: Clock = systemClock, freeBytes: FreeBytes = freeBytesOf) {
    this.#limitMs = limitMs;
    this.#clock = clock;
    this.#freeBytes = freeBytes;
  }

  /** Hears whenever somebody begins to wait, and when nobody waits any more. @returns what ends it */
  listen(listener: (news: DiskNews) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Whether so much can be written now, as far as can be told. */
  hasRoom(directory: string, byteLength: number): boolean {
    try {
      return this.#freeBytes(directory) >= byteLength;
    } catch {
      // Why it cannot be looked at, the write will say.
      return true;
    }
  }

  /**
   * Runs a write again and again while the disk is full.
   * @param write may have written a part before it fails; the next attempt writes it all
   * @throws what the last attempt threw; the signal's reason
   */
  async writing<Result>(directory: string, signal: AbortSignal, write: () => Promise<Result>): Promise<Result> {
    try {
      return await write();
    } catch (failure) {
      if (!isDiskFull(failure)) throw failure;
    }
    return this.#wait(directory, signal, async (isLast) => {
      try {
        return { result: await write() };
      } catch (failure) {
        if (isLast || !isDiskFull(failure)) throw failure;
        return undefined;
      }
    });
  }

  /**
   * Resolves when there is so much room.
   * @throws WeirError RESOURCE_EXHAUSTED naming the directory when there is none within the limit; the signal's reason
   */
  async available(directory: string, byteLength: number, signal: AbortSignal): Promise<void> {
    if (this.hasRoom(directory, byteLength)) return;
    await this.#wait(directory, signal, (isLast) => {
      if (this.hasRoom(directory, byteLength)) return Promise.resolve({ result: undefined });
      if (isLast) throw spillFailure(Object.assign(new Error(), { code: "ENOSPC" }), directory, "write state");
      return Promise.resolve(undefined);
    });
  }

  async #wait<Result>(
    directory: string,
    signal: AbortSignal,
    attempt: (isLast: boolean) => Promise<{ readonly result: Result } | undefined>,
  ): Promise<Result> {
    const untilMs = this.#clock.monotonicMs() + this.#limitMs;
    this.#count(directory, 1);
    try {
      for (;;) {
        const isLast = this.#clock.monotonicMs() >= untilMs;
        if (!isLast) await this.#clock.sleep(POLL_MS, signal);
        const done = await attempt(isLast);
        if (done !== undefined) return done.result;
      }
    } finally {
      this.#count(directory, -1);
    }
  }

  #count(directory: string, change: 1 | -1): void {
    const before = this.#waiting.get(directory) ?? 0;
    const after = before + change;
    if (after === 0) this.#waiting.delete(directory);
    else this.#waiting.set(directory, after);
    if (change < 0 && after !== 0) return;
    for (const listener of this.#listeners) listener({ directory, isFull: after > 0, limitMs: this.#limitMs });
  }
}

/** A file that is too large for its limits will not become smaller: that is no full disk. */
function isDiskFull(failure: unknown): boolean {
  const { code } = failure as NodeJS.ErrnoException;
  return code === "ENOSPC" || code === "EDQUOT";
}

function freeBytesOf(directory: string): number {
  mkdirSync(directory, { recursive: true });
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize;
}

/** Of this process. */
export const diskRoom = new DiskRoom();
