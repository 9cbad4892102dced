/**
 * What a job's pipeline options say about checkpoints; undefined where it takes none. Defaults are Flink's, but for
 * the number kept: Weir keeps more than one, to have one to go back to when the newest cannot be read.
 */
import { checkStorageRoot } from "../storage/open-storage.ts";
import type { OptionValues } from "./pipeline-options.ts";

export interface CheckpointSettings {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly minPauseMs: number;
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
  return {
    intervalMs,
    timeoutMs: timeoutMs > 0 ? timeoutMs : DEFAULT_TIMEOUT_MS,
    minPauseMs: Math.max(0, values.integer("min_pause_between_checkpoints") ?? 0),
    retained: RETAINED,
    storageDirectory: path === undefined || path === "" ? undefined : checkStorageRoot(path),
    keepWhenFailed: isExternalized,
    keepWhenCancelled: isExternalized && values.boolean("retain_externalized_checkpoints_on_cancellation"),
  };
}
