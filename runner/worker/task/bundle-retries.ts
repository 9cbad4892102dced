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
  /** Knows the stage. */
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
    const { maxBundleAttempts, log } = this.#init;
    this.#failures++;
    if (failure instanceof BundleFailedError) this.#firstUserError ??= failure;
    else if (!(failure instanceof WeirError)) throw failure;
    else if (!failure.retry) throw this.#named(failure);
    if (this.#failures >= maxBundleAttempts) {
      const reported = this.#firstUserError ?? WeirError.from(failure);
      throw new WeirError({
        code: "ABORTED",
        domain: this.#firstUserError === undefined ? "external" : "user",
        message: `${this.#failedPart(reported.message)} failed ${this.#failures} times. The first failure was:\n${reported.message}`,
        ...hintFor(reported.message),
        ids: reported.ids,
        cause: reported,
      });
    }
    const err = WeirError.from(failure);
    log.warn({ ...err.ids, attempt: this.#failures, err }, "bundle failed, running it again");
  }

  /** What no other attempt can mend, with the stage. */
  #named(failure: WeirError): WeirError {
    const { code, domain, ids } = failure;
    const message = `A bundle of ${this.#init.stageName} failed: ${failure.message}`;
    return new WeirError({ code, domain, message, ids, cause: failure });
  }

  /** The transform that the SDK names in its error, else the stage. */
  #failedPart(sdkError: string): string {
    const running = /\[while running '([^']+)'\]/.exec(sdkError);
    return running === null ? `A bundle of ${this.#init.stageName}` : `A bundle with transform "${running[1]}"`;
  }
}

/** What the SDK's own words do not say: how many bytes a list of grouped values may have before it is a lazy iterable. */
function hintFor(sdkError: string): { hint?: string } {
  if (!/TypeError: .*_ConcatSequence/.test(sdkError)) return {};
  const hint =
    "The values of a large group are read while they are iterated over: they have no len() and no index. Iterate " +
    "(sum(1 for _ in values)), or let larger groups be lists: --limit stateBackedIterableBytes=BYTES of weir serve.";
  return { hint };
}
