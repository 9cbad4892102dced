/**
 * The failed attempts of one bundle: says whether another one may mend it, and with which words its job fails when
 * none may.
 *
 * Invariant: the first error of user code is the one that is reported.
 */
import { WeirError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { BundleFailedError } from "./bundle-attempt.ts";

export interface BundleRetriesInit {
  readonly stageName: string;
  readonly maxBundleAttempts: number;
  readonly log: Log;
}

export class BundleRetries {
  readonly #init: BundleRetriesInit;
  #failures = 0;
  #firstUserError: BundleFailedError | undefined;

  constructor(init: BundleRetriesInit) {
    this.#init = init;
  }

  /** An attempt has failed. Returns when there is to be another. @throws what the job fails with. */
  failed(failure: unknown): void {
    const { stageName, maxBundleAttempts, log } = this.#init;
    this.#failures++;
    if (failure instanceof BundleFailedError) this.#firstUserError ??= failure;
    else if (!(failure instanceof WeirError) || !failure.retry) throw failure;
    if (this.#failures >= maxBundleAttempts) {
      const reported = this.#firstUserError ?? WeirError.from(failure);
      throw new WeirError({
        code: "ABORTED",
        domain: this.#firstUserError === undefined ? "external" : "user",
        message: `${this.#failedPart(reported.message)} failed ${this.#failures} times. The first failure was:\n${reported.message}`,
        ids: reported.ids,
        cause: reported,
      });
    }
    log.warn(
      { stage: stageName, attempt: this.#failures, err: WeirError.from(failure) },
      "bundle failed, running it again",
    );
  }

  /** The transform that the SDK names in its error, else the stage. */
  #failedPart(sdkError: string): string {
    const running = /\[while running '([^']+)'\]/.exec(sdkError);
    return running === null ? `A bundle of ${this.#init.stageName}` : `A bundle with transform "${running[1]}"`;
  }
}
