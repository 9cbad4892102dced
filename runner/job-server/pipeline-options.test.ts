import test from "ava";
import { jobSettings } from "./job-settings.ts";
import { OPTION_TABLE } from "./option-table.ts";
import { optionName, readOptions } from "./pipeline-options.ts";
import { resourceHintSentences } from "./resource-hints.ts";

/** name · type · default as Flink's own pages list them. */
const FLINK_DEFAULTS = `
flink_master STRING [auto] · parallelism INTEGER -1 · max_parallelism INTEGER -1 · flink_conf_dir STRING –
attached_mode BOOLEAN true · job_check_interval_in_secs INTEGER 5 · checkpointing_interval INTEGER -1
checkpointing_mode STRING EXACTLY_ONCE · checkpoint_timeout_millis INTEGER -1 · min_pause_between_checkpoints INTEGER -1
num_concurrent_checkpoints INTEGER 1 · fail_on_checkpointing_errors BOOLEAN true
finish_bundle_before_checkpointing BOOLEAN false · unaligned_checkpoint_enabled BOOLEAN false
force_unaligned_checkpoint_enabled BOOLEAN false · externalized_checkpoints_enabled BOOLEAN false
retain_externalized_checkpoints_on_cancellation BOOLEAN false · report_checkpoint_duration STRING –
state_backend STRING – · state_backend_storage_path STRING – · state_backend_factory STRING – · savepoint_path STRING –
allow_non_restored_state BOOLEAN false · enable_stable_input_drain BOOLEAN false
number_of_execution_retries INTEGER -1 · execution_retry_delay INTEGER -1 · max_bundle_size INTEGER –
max_bundle_time_mills INTEGER – · shutdown_sources_after_idle_ms INTEGER -1 · auto_watermark_interval INTEGER –
latency_tracking_interval INTEGER 0 · file_input_split_max_size_m_b INTEGER 0 · object_reuse BOOLEAN false
operator_chaining BOOLEAN true · faster_copy BOOLEAN false · re_iterable_group_by_key_result BOOLEAN false
execution_mode_for_batch STRING PIPELINED · auto_balance_write_files_sharding_enabled BOOLEAN false
disable_metrics BOOLEAN false · files_to_stage ARRAY – · streaming BOOLEAN false
use_data_stream_for_batch BOOLEAN false · force_slot_sharing_group BOOLEAN true
disable_metric_accumulator BOOLEAN false · shutdown_sources_on_final_watermark BOOLEAN false`;

const RESTART_STRATEGY = `
type STRING · fixed_delay_attempts INTEGER · fixed_delay_delay STRING · failure_rate_max_failures_per_interval INTEGER
failure_rate_failure_rate_interval STRING · failure_rate_delay STRING · exponential_delay_initial_backoff STRING
exponential_delay_max_backoff STRING · exponential_delay_backoff_multiplier STRING
exponential_delay_reset_backoff_threshold STRING · exponential_delay_jitter_factor STRING
exponential_delay_attempts_before_reset_backoff INTEGER`;

const WEIR_DEFAULTS = [
  "aligned_checkpoint_timeout INTEGER -1",
  "tolerable_checkpoint_failures INTEGER -1",
  ...RESTART_STRATEGY.trim()
    .split(/ · |\n/)
    .map((option) => `restart_strategy_${option} –`),
];

test("every option of Beam's FlinkPipelineOptions is described with Flink's type and default", (t) => {
  const described = OPTION_TABLE.filter((option) => option.described).map(
    ({ name, type, defaultValue }) => `${name} ${type} ${defaultValue ?? "–"}`,
  );
  const expected = [...FLINK_DEFAULTS.trim().split(/ · |\n/), ...WEIR_DEFAULTS];
  t.deepEqual(described.toSorted(), expected.toSorted());
});

test("Java's names count as Python's", (t) => {
  t.is(optionName("beam:option:checkpointingInterval:v1"), "checkpointing_interval");
  t.is(optionName("beam:option:shutdownSourcesAfterIdleMs:v1"), "shutdown_sources_after_idle_ms");
  t.is(optionName("beam:option:fileInputSplitMaxSizeMB:v1"), "file_input_split_max_size_m_b");
  t.is(optionName("max_parallelism"), "max_parallelism");
});

test("whole numbers come as strings or numbers; -1 leaves the choice to the runner", (t) => {
  const read = (options: Record<string, unknown>) => jobSettings(readOptions(options));
  t.is(read({ "beam:option:parallelism:v1": "7" }).parallelism, 7);
  t.is(read({ "beam:option:parallelism:v1": 7 }).parallelism, 7);
  t.is(read({ "beam:option:parallelism:v1": "-1" }).parallelism, undefined);
  t.is(read({ "beam:option:sdk_worker_parallelism:v1": "0" }).sdkWorkerParallelism, 0);
  t.deepEqual(read({ "beam:option:experiments:v1": ["a", "b=c"] }).experiments, ["a", "b=c"]);
});

test("bundle sizes default to Flink's, for batch and for streaming", (t) => {
  const batch = jobSettings(readOptions({}));
  t.deepEqual([batch.maxBundleSize, batch.maxBundleTimeMs], [1_000_000, 10_000]);
  const streaming = jobSettings(readOptions({ "beam:option:streaming:v1": true }));
  t.deepEqual([streaming.maxBundleSize, streaming.maxBundleTimeMs], [1_000, 1_000]);
});

for (const [name, value, says] of [
  ["parallelism", "0", /at least|from 1/],
  ["parallelism", 2.5, /whole number/],
  ["parallelism", "", /whole number/],
  ["parallelism", [1], /whole number/],
  ["max_parallelism", "32769", /from 1 to 32768/],
  ["streaming", "maybe", /true or false/],
  ["checkpointing_mode", "SOMETIMES", /EXACTLY_ONCE, AT_LEAST_ONCE/],
  ["savepoint_path", { a: 1 }, /a string/],
  ["files_to_stage", 3, /a list/],
] as const) {
  test(`--${name}=${JSON.stringify(value)} is refused by name`, (t) => {
    const failure = t.throws(() => readOptions({ [`beam:option:${name}:v1`]: value }));
    t.regex(failure?.message ?? "", says);
    t.true(failure?.message.includes(`--${name}`));
  });
}

test("barriers overtake data at once, after a while, or never", (t) => {
  const after = (options: Record<string, unknown>) =>
    jobSettings(readOptions({ checkpointing_interval: 1_000, ...options })).checkpoints?.overtakesAfterMs;
  t.is(after({}), undefined);
  t.is(after({ unaligned_checkpoint_enabled: true }), 0);
  t.is(after({ force_unaligned_checkpoint_enabled: true }), 0);
  t.is(after({ aligned_checkpoint_timeout: 500 }), 500);
  t.is(after({ aligned_checkpoint_timeout: 500, unaligned_checkpoint_enabled: true }), 500);
});

for (const [options, name] of [
  [{ unaligned_checkpoint_enabled: true, checkpointing_mode: "AT_LEAST_ONCE" }, "unaligned_checkpoint_enabled"],
  [{ aligned_checkpoint_timeout: 5, checkpointing_mode: "AT_LEAST_ONCE" }, "aligned_checkpoint_timeout"],
  [{ force_unaligned_checkpoint_enabled: true, num_concurrent_checkpoints: 2 }, "force_unaligned_checkpoint_enabled"],
] as const) {
  test(`${Object.keys(options).join(" and ")} together are refused by name`, (t) => {
    const failure = t.throws(() => jobSettings(readOptions({ checkpointing_interval: 1_000, ...options })));
    for (const each of [name, Object.keys(options)[1] ?? ""]) t.true(failure?.message.includes(`--${each}`));
  });
}

test("a flag whose default is true is reported when it turns something off, and only then", (t) => {
  t.deepEqual(readOptions({ "beam:option:operator_chaining:v1": true }).ineffective(), []);
  t.regex(readOptions({ "beam:option:operator_chaining:v1": false }).ineffective().join(), /--operator_chaining/);
});

test("failed checkpoints fail no job, however many, unless it is said how many may; which Flink's flag cannot say", (t) => {
  const tolerable = (options: Record<string, unknown>) =>
    jobSettings(readOptions({ checkpointing_interval: 1_000, ...options })).checkpoints?.tolerableFailures;
  t.is(tolerable({ fail_on_checkpointing_errors: true }), undefined);
  t.is(tolerable({ tolerable_checkpoint_failures: "0" }), 0);
  t.deepEqual(readOptions({ fail_on_checkpointing_errors: true }).ineffective(), []);
  t.regex(readOptions({ fail_on_checkpointing_errors: false }).ineffective().join(), /unless --tolerable_checkpoint_/);
});

/** What the stock Python client sends when a user sets nothing. */
const PYTHON_DEFAULTS: Readonly<Record<string, unknown>> = {
  update: false,
  enable_streaming_engine: true,
  dataflow_endpoint: "https://dataflow.googleapis.com",
  flink_master: "[auto]",
  flink_version: "2.2",
  flink_submit_uber_jar: false,
  spark_master_url: "local[4]",
  spark_version: "3",
  bootstrap_servers: "localhost:9092",
  prism_log_level: "info",
  prism_log_kind: "console",
  direct_runner_use_stacked_bundle: true,
  direct_num_workers: "1",
  direct_running_mode: "in_memory",
  direct_test_splits: {},
  job_server_java_launcher: "java",
  job_server_jvm_properties: [],
  job_port: "0",
  environment_cache_millis: "0",
  resource_hints: [],
  streaming: false,
};

const optionsOf = (values: Readonly<Record<string, unknown>>) =>
  readOptions(Object.fromEntries(Object.entries(values).map(([name, value]) => [`beam:option:${name}:v1`, value])));

test("a job that sets options of other runners is told so, in a sentence for each of them", (t) => {
  t.deepEqual(optionsOf(PYTHON_DEFAULTS).ineffective(), []);
  const said = optionsOf({
    ...PYTHON_DEFAULTS,
    num_workers: "3",
    update: true,
    direct_num_workers: "4",
    direct_test_splits: { a: 1 },
    prism_log_level: "debug",
  }).ineffective();
  t.is(said.length, 3);
  t.regex(said[0] ?? "", /^--num_workers \(given: 3\), --update \(given: true\) are options of the Dataflow runner/);
  t.regex(said[0] ?? "", /--parallelism.*--savepoint_path/);
  t.regex(said[1] ?? "", /^--prism_log_level \(given: debug\) is an option of Prism and has no effect in Weir\.$/);
  t.regex(
    said[2] ?? "",
    /direct_num_workers \(given: 4\), --direct_test_splits \(given: {"a":1}\) are .*direct runner/,
  );
});

test("an environment that is to be kept for a later job is not, and the job is told", (t) => {
  t.regex(
    optionsOf({ environment_cache_millis: "5000" }).ineffective().join(),
    /--environment_cache_millis.*no effect/,
  );
});

test("a jar instead of a run is refused", (t) => {
  t.throws(() => jobSettings(optionsOf({ output_executable_path: "/tmp/job.jar" })), {
    message: /--output_executable_path.*a jar/,
  });
});

test("LOOPBACK is known by the names that Python and Java give it", (t) => {
  t.is(jobSettings(optionsOf({ environment_type: "LOOPBACK" })).environmentType, "LOOPBACK");
  t.is(jobSettings(optionsOf({ defaultEnvironmentType: "LOOPBACK" })).environmentType, "LOOPBACK");
});

test("a job with resource hints is told that they change nothing", (t) => {
  const environment = { urn: "beam:env:process:v1", payload: new Uint8Array(), capabilities: [], dependencies: [] };
  const hinted = { ...environment, resourceHints: ["beam:resources:min_ram_bytes:v1", "my:hint"] };
  t.deepEqual(resourceHintSentences({ a: { ...environment, resourceHints: [] } }), []);
  t.regex(
    resourceHintSentences({ a: hinted, b: hinted }).join(),
    /^Resource hints \(min_ram_bytes, my:hint\) have no effect/,
  );
});

test("options that nobody here knows are the SDK's business", (t) => {
  t.deepEqual(readOptions({ "beam:option:temp_location:v1": "/tmp", other: null }).ineffective(), []);
});
