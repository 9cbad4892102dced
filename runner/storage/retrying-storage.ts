/**
 * Any storage across a network, with patience: what fails with UNAVAILABLE is tried again after a pause that doubles
 * and is spread by chance, so that many tasks do not come back in the same moment. Files go up and down a few at a time.
 *
 * Invariant: after the last attempt its error is thrown as it is; all attempts of an operation do the same, which every
 * operation of CheckpointStorage allows.
 */
import { type Clock, randomHex, systemClock } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import type { CheckpointStorage } from "./checkpoint-storage.ts";

export interface Patience {
  readonly attempts: number;
  /** Before the second attempt; half of it at least. */
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
}

/** About ten seconds of pauses beside what the attempts themselves take: the next checkpoint is a better attempt then. */
const PATIENCE: Patience = { attempts: 6, firstDelayMs: 250, maxDelayMs: 5_000 };
/** Each holds two parts of some megabytes, and more at once are not faster. */
const TRANSFERS_AT_ONCE = 4;

export class RetryingStorage implements CheckpointStorage {
  readonly #storage: CheckpointStorage;
  readonly #clock: Clock;
  readonly #patience: Patience;
  #freeTransfers = TRANSFERS_AT_ONCE;
  readonly #waiting: (() => void)[] = [];

  constructor(storage: CheckpointStorage, patience: Patience = PATIENCE, clock: Clock = systemClock) {
    this.#storage = storage;
    this.#patience = patience;
    this.#clock = clock;
  }

  open(folder: string): Promise<void> {
    return this.#retry(() => this.#storage.open(folder));
  }

  create(location: string, bytes: Uint8Array): Promise<void> {
    return this.#retry(() => this.#storage.create(location, bytes));
  }

  read(location: string): Promise<Uint8Array> {
    return this.#retry(() => this.#storage.read(location));
  }

  upload(location: string, localPath: string): Promise<void> {
    return this.#transfer(() => this.#storage.upload(location, localPath));
  }

  download(location: string, localPath: string): Promise<void> {
    return this.#transfer(() => this.#storage.download(location, localPath));
  }

  size(location: string): Promise<number | undefined> {
    return this.#retry(() => this.#storage.size(location));
  }

  list(folder: string): Promise<readonly string[]> {
    return this.#retry(() => this.#storage.list(folder));
  }

  files(folder: string): Promise<readonly string[]> {
    return this.#retry(() => this.#storage.files(folder));
  }

  folders(folder: string): Promise<readonly string[]> {
    return this.#retry(() => this.#storage.folders(folder));
  }

  delete(locations: readonly string[]): Promise<void> {
    return this.#retry(() => this.#storage.delete(locations));
  }

  removeFolder(folder: string): Promise<void> {
    return this.#retry(() => this.#storage.removeFolder(folder));
  }

  async #transfer(copy: () => Promise<void>): Promise<void> {
    if (this.#freeTransfers === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#freeTransfers--;
    try {
      await this.#retry(copy);
    } finally {
      // The place goes to who waits, without becoming free in between.
      const next = this.#waiting.shift();
      if (next === undefined) this.#freeTransfers++;
      else next();
    }
  }

  async #retry<T>(operation: () => Promise<T>): Promise<T> {
    const { attempts, firstDelayMs, maxDelayMs } = this.#patience;
    for (let attempt = 1; ; attempt++)
      try {
        return await operation();
      } catch (thrown) {
        if (attempt >= attempts || !WeirError.from(thrown).retry) throw thrown;
        const delayMs = Math.min(maxDelayMs, firstDelayMs * 2 ** (attempt - 1));
        await this.#clock.sleep((delayMs / 2) * (1 + chance()));
      }
  }
}

/** From 0 to 1. */
function chance(): number {
  return Number.parseInt(randomHex(2), 16) / 0x1_0000;
}
