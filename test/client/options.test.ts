// Pipeline options by the stock client (options.py): described as Flink's job server does, and none dropped silently.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { OPTION_TABLE, type OptionSpec } from "../../runner/job-server/option-table.ts";
import { runPython, WeirServer } from "../support/weir-server.ts";

/** Beside Flink's: Weir's own, and Flink's configuration under its names. None has a default that could pass for a wish. */
const OWN = `
aligned_checkpoint_timeout INTEGER -1
tolerable_checkpoint_failures INTEGER -1
restart_strategy_type STRING
restart_strategy_fixed_delay_attempts INTEGER
restart_strategy_fixed_delay_delay STRING
restart_strategy_failure_rate_max_failures_per_interval INTEGER
restart_strategy_failure_rate_failure_rate_interval STRING
restart_strategy_failure_rate_delay STRING
restart_strategy_exponential_delay_initial_backoff STRING
restart_strategy_exponential_delay_max_backoff STRING
restart_strategy_exponential_delay_backoff_multiplier STRING
restart_strategy_exponential_delay_reset_backoff_threshold STRING
restart_strategy_exponential_delay_jitter_factor STRING
restart_strategy_exponential_delay_attempts_before_reset_backoff INTEGER
`;

/** name, type and default; as FlinkPipelineOptions.java (Beam 2.77) has them under their Python names. */
const FLINK = `
flink_master STRING [auto]
parallelism INTEGER -1
max_parallelism INTEGER -1
flink_conf_dir STRING
attached_mode BOOLEAN true
job_check_interval_in_secs INTEGER 5
checkpointing_interval INTEGER -1
checkpointing_mode STRING EXACTLY_ONCE
checkpoint_timeout_millis INTEGER -1
min_pause_between_checkpoints INTEGER -1
num_concurrent_checkpoints INTEGER 1
fail_on_checkpointing_errors BOOLEAN true
finish_bundle_before_checkpointing BOOLEAN false
unaligned_checkpoint_enabled BOOLEAN false
force_unaligned_checkpoint_enabled BOOLEAN false
externalized_checkpoints_enabled BOOLEAN false
retain_externalized_checkpoints_on_cancellation BOOLEAN false
report_checkpoint_duration STRING
state_backend STRING
state_backend_storage_path STRING
state_backend_factory STRING
savepoint_path STRING
allow_non_restored_state BOOLEAN false
enable_stable_input_drain BOOLEAN false
number_of_execution_retries INTEGER -1
execution_retry_delay INTEGER -1
max_bundle_size INTEGER
max_bundle_time_mills INTEGER
shutdown_sources_after_idle_ms INTEGER -1
auto_watermark_interval INTEGER
latency_tracking_interval INTEGER 0
file_input_split_max_size_m_b INTEGER 0
object_reuse BOOLEAN false
operator_chaining BOOLEAN true
faster_copy BOOLEAN false
re_iterable_group_by_key_result BOOLEAN false
execution_mode_for_batch STRING PIPELINED
auto_balance_write_files_sharding_enabled BOOLEAN false
disable_metrics BOOLEAN false
disable_metric_accumulator BOOLEAN false
shutdown_sources_on_final_watermark BOOLEAN false
use_data_stream_for_batch BOOLEAN false
force_slot_sharing_group BOOLEAN true
files_to_stage ARRAY
streaming BOOLEAN false`;

/** Values for options with which a job can run; others are given a 7. */
const VALUES: Readonly<Record<string, string>> = {
  checkpointing_interval: "60000",
  checkpoint_timeout_millis: "60000",
  max_parallelism: "64",
  parallelism: "2",
  state_backend: "rocksdb",
  execution_mode_for_batch: "BATCH",
};
/** A job with them needs more than a directory, or they contradict each other: others' tests. */
const NEEDS_MORE = new Set([
  "savepoint_path",
  "files_to_stage",
  // At least once there is no barrier that waits, and so none that overtakes.
  "checkpointing_mode",
  ...OPTION_TABLE.filter(({ name }) => name.startsWith("restart_strategy_")).map(({ name }) => name),
]);
const NO_EFFECT = /no effect/;

let server: WeirServer;
const directory = mkdtempSync(join(tmpdir(), "weir-options-test-"));

test.before(async () => {
  server = await WeirServer.open();
});

test.after.always(async (t) => {
  rmSync(directory, { recursive: true, force: true });
  if (server !== undefined) t.true(await server.close());
});

async function run(t: ExecutionContext, ...args: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await runPython("test/client/options.py", [server.endpoint, ...args]);
  t.is(code, 0, stderr.slice(-4_000));
  return JSON.parse(stdout) as string[];
}

/** A value that differs from the default. The client turns a flag around whose default is true. */
function flag({ name, type }: OptionSpec): string {
  if (type === "BOOLEAN") return `--${name}`;
  if (name === "state_backend_storage_path") return `--${name}=${join(directory, "checkpoints")}`;
  return `--${name}=${VALUES[name] ?? "7"}`;
}

const described = OPTION_TABLE.filter((spec) => spec.described && !NEEDS_MORE.has(spec.name));
const hasEffect = ({ effect }: OptionSpec) => effect === "honoured";

test("the options that a client is told of are Flink's, with their types and defaults, and a few of Weir's own", async (t) => {
  const told = await run(t, "describe");
  const known = [FLINK, OWN].flatMap((lines) => lines.trim().split("\n"));
  t.deepEqual(told.map((line) => line.trim()).sort(), known.sort());
});

test("a job that sets options without effect is told of each; one that sets none is told nothing", async (t) => {
  t.timeout(120_000);
  const others = described.filter((spec) => !hasEffect(spec));
  const messages = await run(t, "submit", ...others.map(flag));
  for (const { name } of others) {
    const said = messages.filter((message) => message.includes(`--${name} `) || message.includes(`--${name}=`));
    t.is(said.length, 1, `${name}: ${said.join("\n")}`);
  }
  t.deepEqual(
    (await run(t, "submit")).filter((message) => NO_EFFECT.test(message)),
    [],
  );
});

test("of options that have an effect none is said to have none", async (t) => {
  t.timeout(120_000);
  // Barriers that overtake are of one checkpoint at a time.
  const alone = described.filter(({ name }) => name === "num_concurrent_checkpoints");
  const together = described.filter((spec) => hasEffect(spec) && !alone.includes(spec));
  t.true(alone.every(hasEffect));
  const messages = [
    ...(await run(t, "submit", ...together.map(flag))),
    ...(await run(t, "submit", ...alone.map(flag))),
  ];
  t.deepEqual(
    messages.filter((message) => NO_EFFECT.test(message)),
    [],
  );
});
