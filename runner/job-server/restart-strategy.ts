/**
 * Whether a failed job is restarted, and when: Flink's strategies, and a default of Weir's own. Pure: what time it is, and
 * chance, are handed in.
 *
 * A job that names no strategy is restarted a few times in a row; progress (a complete checkpoint, a task that has
 * finished) starts the count anew, so that only what fails again and again at the same place ends the job.
 *
 * Source: Flink's RestartBackoffTimeStrategy and its implementations (exponential delay: as of 1.19).
 */

export type RestartPolicy =
  /** Nothing was asked for: failures of the pipeline itself end the job. */
  | { readonly kind: "default"; readonly delayMs: number | undefined }
  | { readonly kind: "none" }
  | { readonly kind: "fixed-delay"; readonly attempts: number; readonly delayMs: number | undefined }
  | {
      readonly kind: "failure-rate";
      readonly maxFailures: number;
      readonly intervalMs: number;
      readonly delayMs: number;
    }
  | {
      readonly kind: "exponential-delay";
      readonly initialMs: number;
      readonly maxMs: number;
      readonly multiplier: number;
      /** So long without a failure, and the delay is the initial one again. */
      readonly resetAfterMs: number;
      /** Of the delay: so much is added or taken away by chance. */
      readonly jitter: number;
      /** Restarts in a row; Infinity: any number. */
      readonly attempts: number;
    };

/** Flink's names of each, as its configuration takes them. */
export const RESTART_STRATEGY_TYPES: Readonly<Record<string, Exclude<RestartPolicy["kind"], "default">>> = {
  none: "none",
  off: "none",
  disable: "none",
  "fixed-delay": "fixed-delay",
  fixeddelay: "fixed-delay",
  "failure-rate": "failure-rate",
  failurerate: "failure-rate",
  "exponential-delay": "exponential-delay",
  exponentialdelay: "exponential-delay",
};

export type RestartDecision =
  /** `counted` names the restart for people, as in "restart 1 of 3". */
  | { readonly kind: "restart"; readonly delayMs: number; readonly counted: string }
  | { readonly kind: "give-up"; readonly restarts: number };

const DEFAULT_MAX_RESTARTS = 3;
/** A worker that died takes about so long to be replaced, and its end to be seen by all. */
const DEFAULT_DELAY_MS = 500;

/**
 * Whether a task that failed may be started again: it says so itself, or the user has asked for restarts, which are for
 * failures of the pipeline too, as in Flink. An environment that is gone for good does not come back.
 * @param failure undefined: it did not say why
 */
export function mayComeRight(
  failure: { readonly retry: boolean; readonly environmentLost: boolean } | undefined,
  policy: RestartPolicy,
): boolean {
  if (failure?.environmentLost === true) return false;
  return failure?.retry === true || (policy.kind !== "default" && !forbidsRestarts(policy));
}

export function forbidsRestarts(policy: RestartPolicy): boolean {
  return policy.kind === "none" || (policy.kind === "fixed-delay" && policy.attempts === 0);
}

export class RestartStrategy {
  readonly #policy: RestartPolicy;
  #restarts = 0;
  /** Of the last failures, oldest first: as many as the policy allows in an interval. */
  #failedMs: number[] = [];
  /** Exponential delay: since the last reset, and when the last restart was due. */
  #backoffs = 0;
  #restartedMs: number | undefined;

  constructor(policy: RestartPolicy) {
    this.#policy = policy;
  }

  /** The job has come further than ever before since its last restart. */
  progressed(): void {
    if (this.#policy.kind === "default") this.#restarts = 0;
  }

  /** @param chance from 0 to 1 */
  failed(nowMs: number, chance: () => number): RestartDecision {
    const decision = this.#decide(nowMs, chance);
    if (decision.kind === "restart") this.#restarts++;
    return decision;
  }

  #decide(nowMs: number, chance: () => number): RestartDecision {
    const policy = this.#policy;
    switch (policy.kind) {
      case "none":
        return this.#giveUp();
      case "default":
        return this.#upTo(DEFAULT_MAX_RESTARTS, policy.delayMs ?? DEFAULT_DELAY_MS);
      case "fixed-delay":
        return this.#upTo(policy.attempts, policy.delayMs ?? DEFAULT_DELAY_MS);
      case "failure-rate": {
        const { maxFailures, intervalMs, delayMs } = policy;
        this.#failedMs = [...this.#failedMs.filter((atMs) => nowMs - atMs <= intervalMs), nowMs];
        const count = this.#failedMs.length;
        if (count > maxFailures) return this.#giveUp();
        const rate = `failure ${count} of ${maxFailures} allowed in ${intervalMs / 1000} s`;
        return { kind: "restart", delayMs, counted: `restart ${this.#restarts + 1}, ${rate}` };
      }
      case "exponential-delay": {
        const { initialMs, maxMs, multiplier, resetAfterMs, jitter, attempts } = policy;
        if (this.#restartedMs !== undefined && nowMs - this.#restartedMs >= resetAfterMs) this.#backoffs = 0;
        if (this.#backoffs >= attempts) return this.#giveUp();
        const backoffMs = Math.min(maxMs, initialMs * multiplier ** this.#backoffs++);
        const delayMs = Math.round(Math.min(maxMs, Math.max(initialMs, backoffMs * (1 + jitter * (2 * chance() - 1)))));
        this.#restartedMs = nowMs + delayMs;
        const of = attempts === Infinity ? "" : ` of ${attempts}`;
        return { kind: "restart", delayMs, counted: `restart ${this.#backoffs}${of}` };
      }
    }
  }

  #upTo(attempts: number, delayMs: number): RestartDecision {
    if (this.#restarts >= attempts) return this.#giveUp();
    return { kind: "restart", delayMs, counted: `restart ${this.#restarts + 1} of ${attempts}` };
  }

  #giveUp(): RestartDecision {
    return { kind: "give-up", restarts: this.#restarts };
  }
}
