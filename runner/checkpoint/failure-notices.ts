/**
 * What a job is told of checkpoints that fail: the first few at once, then one a minute as long as it goes on, and that
 * it is over. A store that is down for a day, or a full disk under a short interval, does not flood the messages. Pure.
 */

export interface Notice {
  readonly importance: "WARNING" | "BASIC";
  readonly text: string;
}

/** So many may be told at once, and one more after each pause. */
const AT_ONCE = 3;
const PAUSE_MS = 60_000;

export class FailureNotices {
  #allowed = AT_ONCE;
  #allowedSinceMs: number | undefined;
  /** Since the last complete checkpoint. */
  #inARow = 0;
  #untold = 0;
  /** Of those in a row. */
  #isTold = false;

  /** @param reason a sentence, with or without its full stop */
  failed(checkpointId: number, reason: string, nowMs: number): Notice | undefined {
    this.#inARow++;
    if (!this.#mayTell(nowMs)) {
      this.#untold++;
      return undefined;
    }
    const others = this.#untold === 0 ? "" : ` So were ${this.#untold} before it, since the last message.`;
    this.#untold = 0;
    this.#isTold = true;
    const text = `Checkpoint ${checkpointId} is given up: ${reason.replace(/\.$/, "")}.${others}`;
    return { importance: "WARNING", text };
  }

  #mayTell(nowMs: number): boolean {
    this.#allowedSinceMs ??= nowMs;
    const regained = Math.floor((nowMs - this.#allowedSinceMs) / PAUSE_MS);
    this.#allowedSinceMs += regained * PAUSE_MS;
    this.#allowed = Math.min(AT_ONCE, this.#allowed + regained);
    if (this.#allowed === 0) return false;
    this.#allowed--;
    return true;
  }

  completed(checkpointId: number): Notice | undefined {
    const [inARow, isTold] = [this.#inARow, this.#isTold];
    this.#inARow = 0;
    this.#isTold = false;
    if (!isTold) return undefined;
    const what = inARow === 1 ? "one that was" : `${inARow} in a row that were`;
    return { importance: "BASIC", text: `Checkpoint ${checkpointId} is complete, after ${what} given up.` };
  }
}
