/**
 * Every pipeline option that Weir knows: those of Beam's FlinkPipelineOptions under their Python names, with Flink's
 * types and defaults exactly, a few of Weir's own, and those of the SDKs that a runner has to read.
 *
 * The stock Python client drops an option that DescribePipelineOptions does not name, and registers a BOOLEAN whose
 * default is "true" as `store_false`: a default that differs from Flink's would turn a user's flag around.
 * Source: FlinkPipelineOptions.java, VersionDependentFlinkPipelineOptions.java; pipeline_options.py for the SDK's.
 */

import { RESTART_STRATEGY_TYPES } from "./restart-strategy.ts";
import { stateBackendSentence } from "./state-backend.ts";

export type OptionType = "STRING" | "BOOLEAN" | "INTEGER" | "ARRAY";

/**
 * - `honoured`: does what it says.
 * - `not-yet`: accepted; a job that sets it is told that it has no effect yet.
 * - `not-applicable`: about something that Weir does not have; a job that sets it is told so.
 * - `mapped`: means something of Weir's; a job that sets it is told what, by `mapping`.
 * - `client`: read by the SDK; nothing to say.
 */
export type OptionEffect = "honoured" | "not-yet" | "not-applicable" | "mapped" | "client";

export interface OptionSpec {
  readonly name: string;
  readonly type: OptionType;
  /** As DescribePipelineOptions gives it; undefined where there is none. */
  readonly defaultValue: string | undefined;
  readonly description: string;
  readonly effect: OptionEffect;
  /** Told to clients by DescribePipelineOptions; false where the SDK itself defines it. */
  readonly described: boolean;
  readonly minimum?: number;
  readonly maximum?: number;
  /** Values beside the range, such as -1 for "not set". */
  readonly alsoAllowed?: readonly number[];
  readonly choices?: readonly string[];
  /** A sentence for the value given. */
  readonly mapping?: (given: string) => string;
}

type Limits = Pick<OptionSpec, "minimum" | "maximum" | "alsoAllowed" | "choices" | "mapping">;

function option(
  effect: OptionEffect,
  name: string,
  type: OptionType,
  defaultValue: string | undefined,
  description: string,
  limits: Limits = {},
): OptionSpec {
  return { name, type, defaultValue, description, effect, described: true, ...limits };
}

/** Without a default: only what was set is told. */
function honoured(name: string, type: OptionType, description: string, limits: Limits = {}): OptionSpec {
  return option("honoured", name, type, undefined, description, limits);
}

function sdkOption(name: string, type: OptionType, defaultValue: string | undefined, limits: Limits = {}): OptionSpec {
  return { name, type, defaultValue, description: "", effect: "client", described: false, ...limits };
}

const POSITIVE_OR_UNSET: Limits = { minimum: 1, alsoAllowed: [-1] };
const COUNT_OR_UNSET: Limits = { minimum: 0, alsoAllowed: [-1] };
/** As Flink's KeyGroupRangeAssignment.UPPER_BOUND_MAX_PARALLELISM. */
const MAX_KEY_GROUPS = 32_768;

const PARALLELISM: readonly OptionSpec[] = [
  option("not-applicable", "flink_master", "STRING", "[auto]", "Address of a Flink master. Weir runs the job itself."),
  option("honoured", "parallelism", "INTEGER", "-1", "Subtasks of each stage; -1 lets the runner choose.", {
    minimum: 1,
    maximum: MAX_KEY_GROUPS,
    alsoAllowed: [-1],
  }),
  option("honoured", "max_parallelism", "INTEGER", "-1", "Key groups: the most that a job can be rescaled to.", {
    minimum: 1,
    maximum: MAX_KEY_GROUPS,
    alsoAllowed: [-1],
  }),
  option("not-applicable", "flink_conf_dir", "STRING", undefined, "Directory of a Flink configuration."),
  option("not-applicable", "attached_mode", "BOOLEAN", "true", "Whether a Flink client waits for its job."),
  option("not-applicable", "job_check_interval_in_secs", "INTEGER", "5", "How often a Flink client polls its job."),
];

const CHECKPOINTS: readonly OptionSpec[] = [
  option("honoured", "checkpointing_interval", "INTEGER", "-1", "Milliseconds between checkpoints; -1 is off.", {
    minimum: 1,
    alsoAllowed: [-1],
  }),
  option("honoured", "checkpointing_mode", "STRING", "EXACTLY_ONCE", "EXACTLY_ONCE or AT_LEAST_ONCE.", {
    choices: ["EXACTLY_ONCE", "AT_LEAST_ONCE"],
  }),
  option("honoured", "checkpoint_timeout_millis", "INTEGER", "-1", "A checkpoint that takes longer is aborted.", {
    ...POSITIVE_OR_UNSET,
  }),
  option(
    "honoured",
    "min_pause_between_checkpoints",
    "INTEGER",
    "-1",
    "Milliseconds from one checkpoint's end to the next.",
    {
      ...COUNT_OR_UNSET,
    },
  ),
  option("honoured", "num_concurrent_checkpoints", "INTEGER", "1", "Checkpoints that may run at once.", { minimum: 1 }),
  option("mapped", "fail_on_checkpointing_errors", "BOOLEAN", "true", "See tolerable_checkpoint_failures.", {
    mapping: () =>
      "Option --fail_on_checkpointing_errors (turned off) asks for what Weir does anyway: failed checkpoints fail no job, unless --tolerable_checkpoint_failures says how many may.",
  }),
  option(
    "not-yet",
    "finish_bundle_before_checkpointing",
    "BOOLEAN",
    "false",
    "End running bundles before a checkpoint.",
  ),
  option("honoured", "unaligned_checkpoint_enabled", "BOOLEAN", "false", "Checkpoint barriers may overtake data."),
  option("honoured", "force_unaligned_checkpoint_enabled", "BOOLEAN", "false", "Unaligned whatever the job's graph."),
  option("honoured", "externalized_checkpoints_enabled", "BOOLEAN", "false", "Keep checkpoints beyond their job."),
  option("honoured", "retain_externalized_checkpoints_on_cancellation", "BOOLEAN", "false", "Also of a cancelled job."),
  option("not-yet", "report_checkpoint_duration", "STRING", undefined, "Metric namespace for the time of checkpoints."),
];

const STATE: readonly OptionSpec[] = [
  option("mapped", "state_backend", "STRING", undefined, "rocksdb, hashmap or filesystem: all mean Weir's own.", {
    mapping: stateBackendSentence,
  }),
  option("honoured", "state_backend_storage_path", "STRING", undefined, "Where checkpoints are stored."),
  option("not-applicable", "state_backend_factory", "STRING", undefined, "Java class of a Flink state backend."),
  option("honoured", "savepoint_path", "STRING", undefined, "Savepoint or retained checkpoint to start from."),
  option(
    "honoured",
    "allow_non_restored_state",
    "BOOLEAN",
    "false",
    "Savepoint state that the pipeline lacks is dropped.",
  ),
  option(
    "not-applicable",
    "enable_stable_input_drain",
    "BOOLEAN",
    "false",
    "Drain also with stages that need stable input. Weir always does.",
  ),
];

const RESTART: readonly OptionSpec[] = [
  option("honoured", "number_of_execution_retries", "INTEGER", "-1", "Restarts of a failed job.", {
    ...COUNT_OR_UNSET,
  }),
  option("honoured", "execution_retry_delay", "INTEGER", "-1", "Milliseconds between restarts.", { ...COUNT_OR_UNSET }),
];

const RESTART_STRATEGY = "restart_strategy_";
const FAILURE_RATE = `${RESTART_STRATEGY}failure_rate_`;
const EXPONENTIAL_DELAY = `${RESTART_STRATEGY}exponential_delay_`;

/** Flink's configuration, under its names; durations as Flink writes them. Defaults are in the text: see restart-policy.ts. */
const RESTART_STRATEGIES: readonly OptionSpec[] = [
  honoured(`${RESTART_STRATEGY}type`, "STRING", "none, fixed-delay, failure-rate or exponential-delay.", {
    choices: Object.keys(RESTART_STRATEGY_TYPES),
  }),
  honoured(`${RESTART_STRATEGY}fixed_delay_attempts`, "INTEGER", "Restarts in all (1).", { minimum: 0 }),
  honoured(`${RESTART_STRATEGY}fixed_delay_delay`, "STRING", "Between restarts (1 s)."),
  honoured(`${FAILURE_RATE}max_failures_per_interval`, "INTEGER", "More end the job (1).", { minimum: 1 }),
  honoured(`${FAILURE_RATE}failure_rate_interval`, "STRING", "In which failures are counted (1 min)."),
  honoured(`${FAILURE_RATE}delay`, "STRING", "Between restarts (1 s)."),
  honoured(`${EXPONENTIAL_DELAY}initial_backoff`, "STRING", "Before the first restart (1 s)."),
  honoured(`${EXPONENTIAL_DELAY}max_backoff`, "STRING", "Between restarts at most (1 min)."),
  honoured(`${EXPONENTIAL_DELAY}backoff_multiplier`, "STRING", "From one backoff to the next (1.5)."),
  honoured(`${EXPONENTIAL_DELAY}reset_backoff_threshold`, "STRING", "Without failure, to begin anew (1 h)."),
  honoured(`${EXPONENTIAL_DELAY}jitter_factor`, "STRING", "Of the backoff, more or less by chance (0.1)."),
  honoured(`${EXPONENTIAL_DELAY}attempts_before_reset_backoff`, "INTEGER", "Restarts in a row (any number).", {
    minimum: 1,
  }),
];

const BUNDLES: readonly OptionSpec[] = [
  // Flink computes these two defaults, so they have no text.
  option("honoured", "max_bundle_size", "INTEGER", undefined, "Elements of a bundle: 1000, in batch 1000000.", {
    minimum: 1,
  }),
  option("honoured", "max_bundle_time_mills", "INTEGER", undefined, "Milliseconds of a bundle: 1000, in batch 10000.", {
    minimum: 1,
  }),
];

const SOURCES: readonly OptionSpec[] = [
  option(
    "not-applicable",
    "shutdown_sources_after_idle_ms",
    "INTEGER",
    "-1",
    "End sources that were idle for so long. In Weir a source that has nothing left ends at once; its tasks still take part in checkpoints.",
    { ...COUNT_OR_UNSET },
  ),
  option(
    "not-applicable",
    "auto_watermark_interval",
    "INTEGER",
    undefined,
    "Milliseconds between watermarks. Weir sends a watermark when it moves.",
    { minimum: 0 },
  ),
  option(
    "not-applicable",
    "latency_tracking_interval",
    "INTEGER",
    "0",
    "Milliseconds between Flink's latency markers.",
  ),
  option(
    "not-applicable",
    "file_input_split_max_size_m_b",
    "INTEGER",
    "0",
    "Largest split of a file, for Java's Read.",
  ),
];

const EXECUTION: readonly OptionSpec[] = [
  option("not-applicable", "object_reuse", "BOOLEAN", "false", "Elements are bytes in Weir: there is nothing to copy."),
  option("not-applicable", "operator_chaining", "BOOLEAN", "true", "Flink's chaining. Weir always fuses."),
  option("not-applicable", "faster_copy", "BOOLEAN", "false", "Elements are bytes in Weir: there is nothing to copy."),
  option("not-applicable", "re_iterable_group_by_key_result", "BOOLEAN", "false", "Groups can always be read again."),
  option(
    "not-applicable",
    "execution_mode_for_batch",
    "STRING",
    "PIPELINED",
    "Weir's batch exchange is always blocking.",
  ),
  option("not-applicable", "auto_balance_write_files_sharding_enabled", "BOOLEAN", "false", "For Java's WriteFiles."),
  option("not-yet", "disable_metrics", "BOOLEAN", "false", "Do not collect metrics."),
  option("not-applicable", "disable_metric_accumulator", "BOOLEAN", "false", "Flink's accumulators."),
  option(
    "not-applicable",
    "shutdown_sources_on_final_watermark",
    "BOOLEAN",
    "false",
    "End sources at the final watermark. Weir always does.",
  ),
  option("not-applicable", "use_data_stream_for_batch", "BOOLEAN", "false", "Flink's choice of API."),
  option("not-applicable", "force_slot_sharing_group", "BOOLEAN", "true", "Flink's slot sharing."),
  option("client", "files_to_stage", "ARRAY", undefined, "Files that the SDK stages for its harnesses."),
  option("honoured", "streaming", "BOOLEAN", "false", "Run as a streaming job."),
];

/** Weir's own. */
const WEIR: readonly OptionSpec[] = [
  option(
    "honoured",
    "aligned_checkpoint_timeout",
    "INTEGER",
    "-1",
    "Milliseconds after which an aligned checkpoint's barriers overtake data; -1: never.",
    { ...COUNT_OR_UNSET },
  ),
  option(
    "honoured",
    "tolerable_checkpoint_failures",
    "INTEGER",
    "-1",
    "Checkpoints in a row that may fail before the job does and restarts; -1: any number, 0 is Flink's default.",
    { ...COUNT_OR_UNSET },
  ),
];

/** Of the SDKs, and of Python's FlinkRunnerOptions and PortableOptions. */
const SDK: readonly OptionSpec[] = [
  sdkOption("sdk_worker_parallelism", "INTEGER", "1", { minimum: 0, maximum: 1_024 }),
  sdkOption("environment_type", "STRING", undefined),
  // Java's name of environment_type.
  sdkOption("default_environment_type", "STRING", undefined),
  sdkOption("experiments", "ARRAY", undefined),
  sdkOption("job_name", "STRING", undefined),
  sdkOption("allow_unsafe_triggers", "BOOLEAN", "false"),
  sdkOption("output_executable_path", "STRING", undefined),
  {
    ...sdkOption("environment_cache_millis", "INTEGER", "0"),
    effect: "not-applicable",
    description: "A job's harnesses serve no other job and end with it.",
  },
];

/** All of them, in the order in which DescribePipelineOptions lists them. */
export const OPTION_TABLE: readonly OptionSpec[] = [
  ...PARALLELISM,
  ...CHECKPOINTS,
  ...STATE,
  ...RESTART,
  ...RESTART_STRATEGIES,
  ...BUNDLES,
  ...SOURCES,
  ...EXECUTION,
  ...WEIR,
  ...SDK,
];
