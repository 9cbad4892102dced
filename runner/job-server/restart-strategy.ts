/**
 * Whether a failed job is restarted, and when. Pure.
 *
 * Fixed delay, as Flink's: `number_of_execution_retries` restarts in all, `execution_retry_delay` between them. A job
 * that does not say is restarted a few times in a row; progress (a complete checkpoint, a task that has finished)
 * starts the count anew, so that only what fails again and again at the same place ends the job.
 */

export interface RestartSettings {
  /** As the user gave it; undefined: the default. */
  readonly numberOfExecutionRetries: number | undefined;
  readonly executionRetryDelayMs: number | undefined;
}

export type RestartDecision =
  | { readonly kind: "restart"; readonly delayMs: number; readonly restart: number; readonly maxRestarts: number }
  | { readonly kind: "give-up"; readonly restarts: number };

const DEFAULT_MAX_RESTARTS = 3;
/** A worker that died takes about so long to be replaced, and its end to be seen by all. */
const DEFAULT_DELAY_MS = 500;

export class RestartStrategy {
  readonly #explicit: boolean;
  readonly #maxRestarts: number;
  readonly #delayMs: number;
  #restarts = 0;

  constructor(settings: RestartSettings) {
    this.#explicit = settings.numberOfExecutionRetries !== undefined;
    this.#maxRestarts = settings.numberOfExecutionRetries ?? DEFAULT_MAX_RESTARTS;
    this.#delayMs = settings.executionRetryDelayMs ?? DEFAULT_DELAY_MS;
  }

  /** The job has come further than ever before since its last restart. */
  progressed(): void {
    if (!this.#explicit) this.#restarts = 0;
  }

  failed(): RestartDecision {
    if (this.#restarts >= this.#maxRestarts) return { kind: "give-up", restarts: this.#restarts };
    this.#restarts++;
    return { kind: "restart", delayMs: this.#delayMs, restart: this.#restarts, maxRestarts: this.#maxRestarts };
  }
}
