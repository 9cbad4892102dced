/**
 * What of a job's pipeline options Weir acts on, in Weir's own types. Read from validated options: a wrong type or an
 * impossible value has been refused before.
 */
import { userError } from "../base/errors.ts";
import { checkStorageRoot } from "../storage/open-storage.ts";
import { type CheckpointSettings, checkpointSettings } from "./checkpoint-settings.ts";
import type { OptionValues } from "./pipeline-options.ts";
import { restartPolicy } from "./restart-policy.ts";
import type { RestartPolicy } from "./restart-strategy.ts";

export interface JobSettings {
  readonly streaming: boolean;
  /** Subtasks of a vertex; undefined: the runner chooses. */
  readonly parallelism: number | undefined;
  /** Key groups; undefined: the default. */
  readonly maxParallelism: number | undefined;
  /** Elements of a bundle. */
  readonly maxBundleSize: number;
  readonly maxBundleTimeMs: number;
  /** SDK harnesses per worker and environment; 0: the runner chooses. */
  readonly sdkWorkerParallelism: number;
  /** When it has failed. */
  readonly restarts: RestartPolicy;
  /** As the user gave it; LOOPBACK is EXTERNAL on the wire and known only by this. */
  readonly environmentType: string | undefined;
  readonly checkpointingMode: string | undefined;
  readonly experiments: readonly string[];
  /** Undefined: the job takes none. */
  readonly checkpoints: CheckpointSettings | undefined;
  /** Absolute or a URI: a snapshot that the job goes on from. */
  readonly savepointPath: string | undefined;
  readonly allowNonRestoredState: boolean;
}

/**
 * @param values options as `readOptions` returns them.
 * @throws WeirError naming an option whose value Weir cannot do
 */
export function jobSettings(values: OptionValues): JobSettings {
  const executablePath = values.string("output_executable_path") ?? "";
  if (executablePath !== "")
    throw userError(
      "INVALID_ARGUMENT",
      `Pipeline option --output_executable_path (given: ${executablePath}) asks for a jar instead of a run, which Weir cannot make.`,
      "Leave it out to run the pipeline.",
    );
  const streaming = values.boolean("streaming");
  return {
    streaming,
    parallelism: unlessNegative(values.integer("parallelism")),
    maxParallelism: unlessNegative(values.integer("max_parallelism")),
    maxBundleSize: values.integer("max_bundle_size") ?? (streaming ? 1_000 : 1_000_000),
    maxBundleTimeMs: values.integer("max_bundle_time_mills") ?? (streaming ? 1_000 : 10_000),
    sdkWorkerParallelism: values.integer("sdk_worker_parallelism") ?? 1,
    restarts: restartPolicy(values),
    environmentType: values.string("environment_type") ?? values.string("default_environment_type"),
    checkpointingMode: values.string("checkpointing_mode"),
    experiments: values.array("experiments"),
    checkpoints: checkpointSettings(values),
    savepointPath: savepointPath(values.string("savepoint_path")),
    allowNonRestoredState: values.boolean("allow_non_restored_state"),
  };
}

function savepointPath(path: string | undefined): string | undefined {
  return path === undefined || path === "" ? undefined : checkStorageRoot(path, "Pipeline option --savepoint_path");
}

function unlessNegative(value: number | undefined): number | undefined {
  return value === undefined || value < 0 ? undefined : value;
}
