/**
 * The flags that `weir serve` and `weir worker` share, since the server passes them on to the workers that it starts,
 * and the readers of flags' values.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import { DEFAULT_MEMORY_BUDGET_BYTES, type LimitOverrides, readLimit } from "./base/limits.ts";
import type { LogLevel } from "./base/log.ts";

const MIB = 1024 * 1024;
const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];

interface LogFlags {
  readonly logLevel: LogLevel;
  readonly logFormat: "auto" | "json" | "pretty";
}

export interface WorkerFlags extends LogFlags {
  readonly workerMemoryMb: number;
  readonly workerSlots: number;
  readonly maxBundleAttempts: number;
  readonly limit: LimitOverrides;
  readonly dockerImagesAsProcess: boolean;
  readonly standbyHarness: boolean;
}

export function integer(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^-?\d+$/.test(text) && value >= minimum && value <= maximum) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${minimum} to ${maximum}.`);
  };
}

export function yesOrNo(text: string): boolean {
  if (text === "true" || text === "false") return text === "true";
  throw new InvalidArgumentError("It must be true or false.");
}

export const port = integer(0, 65_535);

function addLogOptions(command: Command): Command {
  return command
    .addOption(new Option("--log-level <level>", "what is logged on stderr").choices(LOG_LEVELS).default("info"))
    .addOption(
      new Option("--log-format <format>", "of what is logged").choices(["auto", "json", "pretty"]).default("auto"),
    );
}

/** Adds the options of WorkerFlags. @param limitNames that --limit knows */
export function addWorkerOptions(command: Command, limitNames: readonly string[]): Command {
  const memoryMb = DEFAULT_MEMORY_BUDGET_BYTES / MIB;
  return addLogOptions(command)
    .option("--worker-memory-mb <mb>", "memory budget of a worker's data", integer(64, 1_048_576), memoryMb)
    .option("--worker-slots <count>", "tasks that a worker runs at once", integer(1, 256), 1)
    .option(
      "--limit <name=bytes>",
      `set one budget by itself, repeatable: ${limitNames.join(", ")}`,
      (text: string, limits: LimitOverrides) => readLimit(text, limitNames, limits),
      {},
    )
    .option("--max-bundle-attempts <count>", "attempts of a bundle before its job fails", integer(1, 1_000), 4)
    .option(
      "--standby-harness",
      "of streaming jobs: each worker keeps one SDK harness more, started and idle, for when one is lost",
      false,
    )
    .option("--docker-images-as-process", "run the stock Python SDK images on a local Python, without Docker", false);
}
