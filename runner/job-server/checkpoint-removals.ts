/**
 * Deletes the checkpoint folders of jobs that are over. A store that is down then is asked again, less and less often;
 * and where a worker was lost that may have lived on for a while, once more after its lease.
 *
 * Invariant: a folder that another job server has taken over is never deleted: CheckpointDirectory sees to that.
 */
import type { Clock } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";

type Removable = Pick<CheckpointDirectory, "path" | "remove">;

const FIRST_PAUSE_MS = 60_000;
const MAX_PAUSE_MS = 3_600_000;
/** A worker without contact ends itself long before, and with it what it uploads. */
const LATE_WRITERS_MS = 300_000;
/** Beyond it the oldest is left where it is, and said so. */
const MAX_PENDING = 1_000;

export class CheckpointRemovals {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #closed = new AbortController();
  readonly #pending = new Map<string, AbortController>();

  constructor({ clock, log }: { readonly clock: Clock; readonly log: Log }) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Folders that are still to be deleted, or looked at once more. */
  get pending(): readonly string[] {
    return [...this.#pending.keys()];
  }

  /** Resolves after the first attempt; never rejects. */
  async remove(directory: Removable, hadLostWorkers: boolean): Promise<void> {
    if (await this.#attempt(directory)) {
      if (hadLostWorkers) this.#later(directory, LATE_WRITERS_MS, 0);
    } else this.#later(directory, FIRST_PAUSE_MS, 1);
  }

  async #attempt(directory: Removable): Promise<boolean> {
    try {
      await directory.remove();
      return true;
    } catch (thrown) {
      const { message } = WeirError.from(thrown);
      this.#log.warn({ folder: directory.path, reason: message }, "the checkpoints of a job that is over are left");
      return false;
    }
  }

  /** @param failures so far; 0: it is deleted, and looked at once more */
  #later(directory: Removable, pauseMs: number, failures: number): void {
    if (this.#closed.signal.aborted) return;
    const given = new AbortController();
    this.#pending.set(directory.path, given);
    const [oldest] = this.#pending;
    if (this.#pending.size > MAX_PENDING && oldest !== undefined) {
      this.#log.warn({ folder: oldest[0] }, "too many folders wait to be deleted: this one stays");
      oldest[1].abort();
      this.#pending.delete(oldest[0]);
    }
    const again = async () => {
      await this.#clock.sleep(pauseMs, AbortSignal.any([given.signal, this.#closed.signal]));
      this.#pending.delete(directory.path);
      if (!(await this.#attempt(directory)))
        this.#later(directory, Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures), failures + 1);
    };
    again().catch(() => undefined);
  }

  /** What could not be deleted until now stays, and is named. Idempotent. */
  close(): void {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    if (this.#pending.size > 0)
      this.#log.warn({ folders: this.pending }, "checkpoint folders of jobs that are over may not be empty");
    this.#pending.clear();
  }
}
