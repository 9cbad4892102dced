/**
 * What a job's pipeline options say about restarts. Two sets of options say it: Beam's own pair, which is a fixed delay,
 * and the names of Flink's configuration with underscores (`restart-strategy.fixed-delay.attempts` is
 * `--restart_strategy_fixed_delay_attempts`), with Flink's values and defaults.
 */
import { userError, type WeirError } from "../base/errors.ts";
import { readDurationMs } from "./duration-text.ts";
import type { OptionValues } from "./pipeline-options.ts";
import { RESTART_STRATEGY_TYPES, type RestartPolicy } from "./restart-strategy.ts";

type Kind = Exclude<RestartPolicy["kind"], "default">;

const TYPE = "restart_strategy_type";
const OLD = ["number_of_execution_retries", "execution_retry_delay"] as const;
const FIXED = "restart_strategy_fixed_delay_";
const RATE = "restart_strategy_failure_rate_";
const EXPONENTIAL = "restart_strategy_exponential_delay_";
const DETAILS: Readonly<Record<Kind, readonly string[]>> = {
  none: [],
  "fixed-delay": [`${FIXED}attempts`, `${FIXED}delay`],
  "failure-rate": [`${RATE}max_failures_per_interval`, `${RATE}failure_rate_interval`, `${RATE}delay`],
  "exponential-delay": [
    `${EXPONENTIAL}initial_backoff`,
    `${EXPONENTIAL}max_backoff`,
    `${EXPONENTIAL}backoff_multiplier`,
    `${EXPONENTIAL}reset_backoff_threshold`,
    `${EXPONENTIAL}jitter_factor`,
    `${EXPONENTIAL}attempts_before_reset_backoff`,
  ],
};

/** @throws WeirError naming options that contradict each other, or one whose value is none */
export function restartPolicy(values: OptionValues): RestartPolicy {
  const type = values.string(TYPE) ?? "";
  const kind = type === "" ? undefined : RESTART_STRATEGY_TYPES[type];
  for (const [other, names] of Object.entries(DETAILS))
    for (const name of names)
      if (other !== kind && isSet(values, name))
        throw refused(`Pipeline option --${name} is set without --${TYPE}=${other}.`, "Add that, or leave it out.");
  if (kind !== undefined && kind !== "fixed-delay")
    for (const name of OLD)
      if (isSet(values, name))
        throw refused(
          `Pipeline options --${name} and --${TYPE}=${type} exclude each other: the first is of a fixed delay.`,
          "Leave one out.",
        );
  switch (kind) {
    case undefined:
      return unnamed(values);
    case "none":
      return { kind };
    case "fixed-delay":
      return fixedDelay(values);
    case "failure-rate":
      return {
        kind,
        maxFailures: values.integer(`${RATE}max_failures_per_interval`) ?? 1,
        intervalMs: durationMs(values, `${RATE}failure_rate_interval`, 60_000, 1),
        delayMs: durationMs(values, `${RATE}delay`, 1_000),
      };
    case "exponential-delay":
      return exponentialDelay(values);
  }
}

function unnamed(values: OptionValues): RestartPolicy {
  const attempts = unlessUnset(values.integer("number_of_execution_retries"));
  const delayMs = unlessUnset(values.integer("execution_retry_delay"));
  return attempts === undefined ? { kind: "default", delayMs } : { kind: "fixed-delay", attempts, delayMs };
}

function fixedDelay(values: OptionValues): RestartPolicy {
  for (const [index, name] of DETAILS["fixed-delay"].entries()) {
    const old = OLD[index] ?? "";
    if (isSet(values, name) && isSet(values, old))
      throw refused(`Pipeline options --${name} and --${old} say the same thing.`, "Leave one out.");
  }
  const delayMs = unlessUnset(values.integer("execution_retry_delay")) ?? 1_000;
  return {
    kind: "fixed-delay",
    attempts: values.integer(`${FIXED}attempts`) ?? unlessUnset(values.integer("number_of_execution_retries")) ?? 1,
    delayMs: durationMs(values, `${FIXED}delay`, delayMs),
  };
}

function exponentialDelay(values: OptionValues): RestartPolicy {
  const initialMs = durationMs(values, `${EXPONENTIAL}initial_backoff`, 1_000, 1);
  const maxMs = durationMs(values, `${EXPONENTIAL}max_backoff`, 60_000, 1);
  if (initialMs > maxMs)
    throw refused(
      `Pipeline option --${EXPONENTIAL}initial_backoff, ${initialMs} ms, is more than --${EXPONENTIAL}max_backoff, ${maxMs} ms.`,
      "Raise the latter.",
    );
  return {
    kind: "exponential-delay",
    initialMs,
    maxMs,
    multiplier: number(values, `${EXPONENTIAL}backoff_multiplier`, 1.5, 1, Infinity),
    resetAfterMs: durationMs(values, `${EXPONENTIAL}reset_backoff_threshold`, 3_600_000, 1),
    jitter: number(values, `${EXPONENTIAL}jitter_factor`, 0.1, 0, 1),
    attempts: values.integer(`${EXPONENTIAL}attempts_before_reset_backoff`) ?? Infinity,
  };
}

function isSet(values: OptionValues, name: string): boolean {
  const integer = values.integer(name);
  return (integer !== undefined && integer >= 0) || (values.string(name) ?? "") !== "";
}

function unlessUnset(value: number | undefined): number | undefined {
  return value === undefined || value < 0 ? undefined : value;
}

function durationMs(values: OptionValues, name: string, defaultMs: number, leastMs = 0): number {
  const text = values.string(name) ?? "";
  const valueMs = text === "" ? defaultMs : readDurationMs(text);
  if (valueMs !== undefined && valueMs >= leastMs) return valueMs;
  throw refused(
    `Pipeline option --${name} must be a duration of at least ${leastMs} ms, but is ${JSON.stringify(text)}.`,
    'Write it as Flink does: "500 ms", "10 s", "1 min", "1 h", or milliseconds.',
  );
}

function number(values: OptionValues, name: string, defaultValue: number, least: number, most: number): number {
  const text = (values.string(name) ?? "").trim();
  const value = text === "" ? defaultValue : Number(text);
  if (value >= least && value <= most) return value;
  const range = most === Infinity ? `at least ${least}` : `from ${least} to ${most}`;
  throw refused(`Pipeline option --${name} must be a number, ${range}, but is ${JSON.stringify(text)}.`);
}

function refused(message: string, hint?: string): WeirError {
  return userError("INVALID_ARGUMENT", message, hint);
}
