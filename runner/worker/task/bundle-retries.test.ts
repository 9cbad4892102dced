import test from "ava";
import { WeirError } from "../../base/errors.ts";
import { silentLog } from "../../base/log.ts";
import { BundleFailedError } from "./bundle-attempt.ts";
import { BundleRetries } from "./bundle-retries.ts";

/** What a job fails with whose bundle fails twice, with these words of the SDK. */
function failureOf(sdkError: string): WeirError | undefined {
  const retries = new BundleRetries({ stageName: "Count", maxBundleAttempts: 2, log: silentLog() });
  retries.failed(new BundleFailedError(sdkError, {}));
  try {
    retries.failed(new BundleFailedError("another one", {}));
  } catch (failure) {
    return WeirError.from(failure);
  }
  return undefined;
}

test("the first error is reported, with the transform that the SDK names", (t) => {
  const failure = failureOf("ValueError: bad [while running 'Count Elements']");
  t.regex(failure?.message ?? "", /^A bundle with transform "Count Elements" failed 2 times.*\nValueError: bad/);
  t.is(failure?.hint, undefined);
});

test("who asks a large group for its length is told of its bytes and of the option", (t) => {
  const failure = failureOf("TypeError: object of type '_ConcatSequence' has no len() [while running 'Count']");
  t.regex(failure?.hint ?? "", /no len\(\).*--limit stateBackedIterableBytes=BYTES/);
  t.is(failureOf("TypeError: object of type 'int' has no len()")?.hint, undefined);
});
