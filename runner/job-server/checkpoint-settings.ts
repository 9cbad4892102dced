/**
 * What a job's pipeline options say about checkpoints; undefined where it takes none. Defaults are Flink's, but for
 * the number kept (Weir keeps more than one, to have one to go back to when the newest cannot be read) and for failures
 * (they fail no job in Weir).
 */
import { userError } from "../base/errors.ts";
import { checkStorageRoot } from "../storage/open-storage.ts";
import type { OptionValues } from "./pipeline-options.ts";

export interface CheckpointSettings {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly minPauseMs: number;
  /** Checkpoints that may run at once. */
  readonly maxConcurrent: number;
  /** Barriers overtake data that they wait for after so long: 0, unaligned. Undefined: never, aligned. */
  readonly overtakesAfterMs: number | undefined;
  /** Failed ones in a row that do not fail the job; undefined: any number. */
  readonly tolerableFailures: number | undefined;
  /** Complete checkpoints that are kept. */
  readonly retained: number;
  /** Absolute or a URI, of all jobs; undefined: the job server's own. */
  readonly storageDirectory: string | undefined;
  /** Whether the checkpoints of a job outlive it when it fails, and when it is cancelled. */
  readonly keepWhenFailed: boolean;
  readonly keepWhenCancelled: boolean;
}

const DEFAULT_TIMEOUT_MS = 600_000;
const RETAINED = 2;

/** @throws WeirError naming state_backend_storage_path when checkpoints cannot go there. */
export function checkpointSettings(values: OptionValues): CheckpointSettings | undefined {
  const intervalMs = values.integer("checkpointing_interval") ?? -1;
  if (intervalMs <= 0) return undefined;
  const timeoutMs = values.integer("checkpoint_timeout_millis") ?? -1;
  const isExternalized = values.boolean("externalized_checkpoints_enabled");
  const path = values.string("state_backend_storage_path");
  const minPauseMs = Math.max(0, values.integer("min_pause_between_checkpoints") ?? 0);
  const tolerable = values.integer("tolerable_checkpoint_failures") ?? -1;
  return {
    intervalMs,
    timeoutMs: timeoutMs > 0 ? timeoutMs : DEFAULT_TIMEOUT_MS,
    minPauseMs,
    // A pause after one checkpoint's end leaves no room for another one beside it, in Flink neither.
    maxConcurrent: minPauseMs > 0 ? 1 : (values.integer("num_concurrent_checkpoints") ?? 1),
    overtakesAfterMs: overtakesAfterMs(values),
    // --fail_on_checkpointing_errors is not asked: its default, true, is sent by clients of users who said nothing.
    tolerableFailures: tolerable < 0 ? undefined : tolerable,
    retained: RETAINED,
    storageDirectory: path === undefined || path === "" ? undefined : checkStorageRoot(path),
    keepWhenFailed: isExternalized,
    keepWhenCancelled: isExternalized && values.boolean("retain_externalized_checkpoints_on_cancellation"),
  };
}

/** Every graph can do it, so that there is nothing to force. @throws WeirError naming options that exclude each other */
function overtakesAfterMs(values: OptionValues): number | undefined {
  const alignedMs = Math.max(-1, values.integer("aligned_checkpoint_timeout") ?? -1);
  const name =
    alignedMs >= 0
      ? "aligned_checkpoint_timeout"
      : ["unaligned_checkpoint_enabled", "force_unaligned_checkpoint_enabled"].find((flag) => values.boolean(flag));
  if (name === undefined) return undefined;
  const refuse = (other: string, why: string) =>
    userError(
      "INVALID_ARGUMENT",
      `Pipeline options --${name} and --${other} exclude each other: ${why}.`,
      "Leave one out.",
    );
  if (values.string("checkpointing_mode") === "AT_LEAST_ONCE")
    throw refuse("checkpointing_mode=AT_LEAST_ONCE", "there is no barrier that waits, and so none that overtakes");
  if ((values.integer("num_concurrent_checkpoints") ?? 1) > 1)
    throw refuse("num_concurrent_checkpoints", "what a barrier has overtaken belongs to one checkpoint");
  return Math.max(0, alignedMs);
}
