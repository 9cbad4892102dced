/** A failed system call on a worker's spill directory, as a message with a way out. */
import { WeirError } from "../base/errors.ts";

/** @param action as in "Cannot ACTION in the spill directory" */
export function spillFailure(failure: unknown, directory: string, action: string): WeirError {
  if (failure instanceof WeirError) return failure;
  const errno = (failure as NodeJS.ErrnoException).code ?? "";
  if (errno === "ENOSPC" || errno === "EDQUOT" || errno === "EFBIG")
    return new WeirError({
      code: "RESOURCE_EXHAUSTED",
      domain: "external",
      message: `Cannot ${action} in the spill directory ${directory}: the disk, or its quota, is full (${errno}).`,
      hint: "Free space there, start the workers with a temporary directory (TMPDIR) on a larger disk, or give them more memory.",
      cause: failure,
    });
  return new WeirError({
    code: "FAILED_PRECONDITION",
    domain: "external",
    message: `Cannot ${action} in the spill directory ${directory}: ${(failure as Error).message}.`,
    hint: "Make it a directory that the worker's user may write to, or start the workers with another temporary directory (TMPDIR).",
    cause: failure,
  });
}
