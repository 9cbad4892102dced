/** How a storage says that something went wrong: what was tried, where, why, and the way out. */
import { type ErrorCode, WeirError } from "../base/errors.ts";

export interface StorageFailure {
  /** As in "Cannot WHAT LOCATION". */
  readonly what: string;
  readonly location: string;
  /** UNAVAILABLE: another attempt may succeed. */
  readonly code: ErrorCode;
  /** As the store or the operating system said it. */
  readonly reason: string;
  readonly hints?: Partial<Record<ErrorCode, string>>;
  readonly cause: unknown;
}

export function storageFailure({ what, location, code, reason, hints, cause }: StorageFailure): WeirError {
  const hint = hints?.[code];
  return new WeirError({
    code,
    domain: "external",
    message: `Cannot ${what} ${location}: ${reason.trim().replace(/\.$/, "")}.`,
    ...(hint === undefined ? {} : { hint }),
    retry: code === "UNAVAILABLE",
    cause,
  });
}
