/**
 * The credit of one exchange stream, on the producer's side: how many bytes it may still send.
 *
 * Invariant: no more is in transit than the consumer's whole window, save a single chunk that is larger than that,
 * which travels alone.
 */

export class ExchangeCredit {
  /** What the consumer granted first, and grants again for what it has consumed. */
  readonly #windowBytes: number;
  #availableBytes: number;
  #waiting: PromiseWithResolvers<void> | undefined;

  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
    this.#availableBytes = windowBytes;
  }

  grant(bytes: number): void {
    this.#availableBytes += bytes;
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }

  /** Takes `bytes`; resolves when they may be sent. One at a time. @throws the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    while (this.#availableBytes < Math.min(bytes, this.#windowBytes)) {
      const waiting = Promise.withResolvers<void>();
      this.#waiting = waiting;
      const abort = () => waiting.reject(signal.reason);
      signal.throwIfAborted();
      signal.addEventListener("abort", abort, { once: true });
      try {
        await waiting.promise;
      } finally {
        signal.removeEventListener("abort", abort);
      }
    }
    this.#availableBytes -= bytes;
  }
}
