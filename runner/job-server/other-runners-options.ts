/**
 * Pipeline options of other runners and of the job servers that clients start, with the SDK's defaults: the stock Python
 * client sends every option that has one, so only a value that differs was set by the user. A job that sets some is told
 * so, in one message for each owner.
 *
 * Not in it: what SDKs, their I/O connectors and their harnesses act on themselves wherever they run, flink_version and
 * spark_version (their defaults change with the SDK's release), and names that nobody here knows. Those are the
 * pipeline's own, and cannot be told from misspelled ones; the Python client refuses to send misspelled ones anyway.
 * Source: apache_beam/options/pipeline_options.py (2.77).
 */

export interface OtherRunnersOption {
  readonly name: string;
  /** Completes "an option of …". */
  readonly owner: string;
  /** As text; undefined: it has none. */
  readonly defaultValue: string | undefined;
  /** What to do in Weir instead. */
  readonly instead: string | undefined;
}

type Entry = string | readonly [name: string, defaultValue: string | undefined, instead?: string];

function ownedBy(owner: string, entries: readonly Entry[]): OtherRunnersOption[] {
  return entries.map((entry) => {
    const [name, defaultValue, instead] = typeof entry === "string" ? [entry, undefined] : entry;
    return { name, owner, defaultValue, instead };
  });
}

const SUBTASKS =
  "--parallelism says in how many subtasks a stage runs, `weir serve --workers` how many workers there are.";
const RESTORE = "A job starts from another one's checkpoint with --savepoint_path.";

const DATAFLOW: readonly Entry[] = [
  ["num_workers", undefined, SUBTASKS],
  ["max_num_workers", undefined, SUBTASKS],
  "autoscaling_algorithm",
  "machine_type",
  "worker_machine_type",
  "disk_size_gb",
  "disk_type",
  "worker_disk_type",
  "disk_provisioned_iops",
  "disk_provisioned_throughput_mibps",
  "worker_region",
  "worker_zone",
  "zone",
  "network",
  "subnetwork",
  "use_public_ips",
  "min_cpu_platform",
  "sdk_harness_container_image_overrides",
  ["dataflow_endpoint", "https://dataflow.googleapis.com"],
  "template_location",
  "dataflow_job_file",
  ["update", "false", RESTORE],
  ["transform_name_mapping", undefined, RESTORE],
  ["create_from_snapshot", undefined, RESTORE],
  ["enable_streaming_engine", "true"],
  "flexrs_goal",
  "dataflow_service_options",
  ["enable_hot_key_logging", "false"],
  ["enable_artifact_caching", "false"],
];

const FLINK_CLIENT: readonly Entry[] = ["flink_job_server_jar", ["flink_submit_uber_jar", "false"]];

const CLIENTS_JOB_SERVER: readonly Entry[] = [
  ["artifacts_dir", undefined, "`weir serve --artifacts-dir` is Weir's."],
  ["job_port", "0"],
  ["artifact_port", "0"],
  ["expansion_port", "0"],
  ["job_server_java_launcher", "java"],
  "job_server_jvm_properties",
  "jar_cache_dir",
];

const SPARK: readonly Entry[] = [
  ["spark_master_url", "local[4]"],
  "spark_job_server_jar",
  ["spark_submit_uber_jar", "false"],
  "spark_rest_url",
];

const KAFKA_STREAMS: readonly Entry[] = [
  ["bootstrap_servers", "localhost:9092"],
  "application_id",
  "kafka_streams_job_server_jar",
];

const PRISM: readonly Entry[] = [
  "prism_location",
  "prism_beam_version_override",
  ["prism_log_level", "info"],
  ["prism_log_kind", "console"],
];

const DIRECT: readonly Entry[] = [
  ["direct_runner_use_stacked_bundle", "true"],
  ["direct_runner_bundle_repeat", "0"],
  ["direct_num_workers", "1", SUBTASKS],
  ["direct_running_mode", "in_memory"],
  ["direct_embed_docker_python", "false"],
  "direct_test_splits",
];

export const OTHER_RUNNERS_OPTIONS: ReadonlyMap<string, OtherRunnersOption> = new Map(
  [
    ...ownedBy("the Dataflow runner", DATAFLOW),
    ...ownedBy("the Flink runner's client", FLINK_CLIENT),
    ...ownedBy("job servers that a client starts itself", CLIENTS_JOB_SERVER),
    ...ownedBy("the Spark runner", SPARK),
    ...ownedBy("the Kafka Streams runner", KAFKA_STREAMS),
    ...ownedBy("Prism", PRISM),
    ...ownedBy("the direct runner", DIRECT),
  ].map((option) => [option.name, option]),
);

/** One sentence for each owner of options that were set (name → value as text), with what to use instead. */
export function otherRunnersSentences(set: ReadonlyMap<string, string>): string[] {
  const known = [...OTHER_RUNNERS_OPTIONS.values()].filter(({ name }) => set.has(name));
  return [...Map.groupBy(known, ({ owner }) => owner)].map(([owner, options]) => {
    const given = options.map(({ name }) => `--${name} (given: ${set.get(name) ?? ""})`).join(", ");
    const instead = new Set(options.flatMap((option) => option.instead ?? []));
    const [isAre, hasHave] = options.length === 1 ? ["is an option", "has"] : ["are options", "have"];
    return [`${given} ${isAre} of ${owner} and ${hasHave} no effect in Weir.`, ...instead].join(" ");
  });
}
