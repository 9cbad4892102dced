/** What a client submits beside its pipeline: options as a Struct, and a name for people. Pure. */
import { Struct } from "../../proto/gen/google/protobuf/struct.ts";
import { WeirError } from "../base/errors.ts";
import type { OptionValues } from "./pipeline-options.ts";

/** @throws WeirError INVALID_ARGUMENT for bytes that are no google.protobuf.Struct */
export function decodeOptions(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    return Struct.unwrap(Struct.decode(bytes));
  } catch (cause) {
    const message = "The pipeline options are not a google.protobuf.Struct.";
    throw new WeirError({ code: "INVALID_ARGUMENT", domain: "user", message, cause });
  }
}

/** Python always submits as "job"; the user's own name is an option there. */
export function nameOf(submitted: string, values: OptionValues): string {
  const chosen = submitted === "" || submitted === "job" ? values.string("job_name") : submitted;
  return chosen === undefined || chosen === "" ? "job" : chosen;
}

/** Safe in file names and on command lines. */
export function slugOf(name: string): string {
  return name.replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, 40) || "job";
}
