/**
 * The one error class for failures. A bug is an assertion, an expected outcome is a union; everything else that
 * stops a request, a bundle, a task or a job is a WeirError.
 *
 * Invariant: `message` is written for a person: it names the transform, option, file or endpoint and the way out.
 */

/** gRPC's status names; `grpc.ts` holds the one table to numbers. */
export type ErrorCode =
  | "INVALID_ARGUMENT"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "FAILED_PRECONDITION"
  | "RESOURCE_EXHAUSTED"
  | "UNIMPLEMENTED"
  | "UNAVAILABLE"
  | "DEADLINE_EXCEEDED"
  | "ABORTED"
  | "CANCELLED"
  | "DATA_LOSS"
  | "INTERNAL";

/** Whose fault: the pipeline or its options (user), a service or process outside Weir (external), Weir itself (internal). */
export type ErrorDomain = "user" | "external" | "internal";

export interface WeirErrorInit {
  readonly code: ErrorCode;
  readonly domain: ErrorDomain;
  readonly message: string;
  /** True when the same work may succeed if tried again unchanged. */
  readonly retry?: boolean;
  /** What the reader can do about it; appended to the message. */
  readonly hint?: string;
  /** Job, stage, bundle, worker ids for the log. */
  readonly ids?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

export class WeirError extends Error {
  override readonly name = "WeirError";
  readonly code: ErrorCode;
  readonly domain: ErrorDomain;
  readonly retry: boolean;
  readonly hint: string | undefined;
  readonly ids: Readonly<Record<string, string>>;

  constructor(init: WeirErrorInit) {
    super(init.hint === undefined ? init.message : `${init.message} ${init.hint}`, { cause: init.cause });
    this.code = init.code;
    this.domain = init.domain;
    this.retry = init.retry ?? false;
    this.hint = init.hint;
    this.ids = init.ids ?? {};
  }

  /** Any thrown value as a WeirError; a WeirError is returned as it is. */
  static from(thrown: unknown, fallback: Partial<WeirErrorInit> = {}): WeirError {
    if (thrown instanceof WeirError) return thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new WeirError({ code: "INTERNAL", domain: "internal", message, cause: thrown, ...fallback });
  }
}

/** Bad input from a pipeline author. */
export function userError(code: ErrorCode, message: string, hint?: string): WeirError {
  return new WeirError({ code, domain: "user", message, ...(hint === undefined ? {} : { hint }) });
}
