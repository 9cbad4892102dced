/**
 * Settings that hurt, seen by how a checkpoint went. Pure: facts in, warnings out; each names what was measured and a
 * value that suits.
 *
 * Source: the figures are those of Flink's documentation on tuning checkpoints, where it has any.
 */

/** How one checkpoint went, and what it was asked to do. */
export interface CheckpointFacts {
  readonly intervalMs: number;
  /** From its beginning until every task had acknowledged. */
  readonly durationMs: number;
  /** The longest of any task: from a barrier on the first channel to the last one. */
  readonly alignmentMs: number;
  /** The same of tasks that held channels back meanwhile, since their barrier did not overtake. */
  readonly blockedMs: number;
  /** The longest of any task: until what was running before the barrier had committed. */
  readonly commitWaitMs: number;
  /** Of each task that wrote something: how long, and how much. */
  readonly writes: readonly { readonly writeMs: number; readonly byteLength: number }[];
  readonly writtenBytes: number;
  /** Of all files that it needs. */
  readonly stateBytes: number;
  /** Checkpoints before it, without a gap, that wrote nearly all of the state; it is not among them. */
  readonly fullInARow: number;
  /** What was on its way, before compression. */
  readonly inFlightBytes: number;
  /** The task that has most of it. */
  readonly mostInFlight: string | undefined;
  /** The same of the checkpoints before it, oldest first, GROWING_IN_A_ROW at most. */
  readonly inFlightBefore: readonly number[];
  /** A directory, rather than a store that all machines reach. */
  readonly storageDirectory: string | undefined;
  readonly hasRemoteWorkers: boolean;
}

export type GuardRail =
  | "short-interval"
  | "slower-than-interval"
  | "long-alignment"
  | "local-storage"
  | "slow-storage"
  | "full-snapshots"
  | "growing-in-flight";

export interface GuardRailWarning {
  readonly rail: GuardRail;
  readonly message: string;
}

/** Below it a job may spend more time on checkpoints than on its work. */
const SHORT_INTERVAL_MS = 1_000;
const USUAL_INTERVAL_MS = 10_000;
/** Alignment holds channels back: more of the interval than this is felt. */
const ALIGNMENT_SHARE = 0.1;
/** Alignment shorter than that is noise, whatever the interval. */
const LEAST_ALIGNMENT_MS = 100;
/** A store in the same data centre answers a put in a fifth of that. */
const SLOW_PUT_MS = 1_000;
const PUT_BYTES_PER_MS = 10_000;
const LARGE_STATE_BYTES = 1024 * 1024 * 1024;
const FULL_SHARE = 0.8;
const FULL_IN_A_ROW = 3;
const MIB = 1024 * 1024;
/** Less is what channels hold under backpressure of a moment. */
const LARGE_IN_FLIGHT_BYTES = 64 * MIB;
/** So many checkpoints, each with more in flight than the one before: it is no moment. */
export const GROWING_IN_A_ROW = 3;

/** What hurts whatever the checkpoints will be like. */
export type SettingsFacts = Pick<CheckpointFacts, "intervalMs" | "storageDirectory" | "hasRemoteWorkers">;

export function settingsWarnings(facts: SettingsFacts): GuardRailWarning[] {
  return [shortInterval, localStorage].flatMap((rail) => rail(facts) ?? []);
}

/** Of the settings, and of how the checkpoint went. */
export function guardRailWarnings(facts: CheckpointFacts): GuardRailWarning[] {
  const ofThis = [slowerThanInterval, longAlignment, slowStorage, fullSnapshots, growingInFlight].flatMap(
    (rail) => rail(facts) ?? [],
  );
  return [...settingsWarnings(facts), ...ofThis];
}

/** Nearly all of a large state, again. */
export function isFullSnapshot({ writtenBytes, stateBytes }: Pick<CheckpointFacts, "writtenBytes" | "stateBytes">) {
  return stateBytes >= LARGE_STATE_BYTES && writtenBytes >= stateBytes * FULL_SHARE;
}

function shortInterval({ intervalMs }: SettingsFacts): GuardRailWarning | undefined {
  if (intervalMs >= SHORT_INTERVAL_MS) return undefined;
  return {
    rail: "short-interval",
    message: `Option --checkpointing_interval is ${intervalMs} ms: below a second the job may spend more time on checkpoints than on its work. ${USUAL_INTERVAL_MS} suits most jobs.`,
  };
}

function slowerThanInterval(facts: CheckpointFacts): GuardRailWarning | undefined {
  const { intervalMs, durationMs, alignmentMs, commitWaitMs, writes } = facts;
  if (durationMs <= intervalMs) return undefined;
  const writeMs = Math.max(0, ...writes.map((write) => write.writeMs));
  const parts = `alignment ${ms(alignmentMs)}, running bundles ${ms(commitWaitMs)}, writing ${ms(writeMs)}, the slowest task each`;
  const why =
    writeMs >= alignmentMs && writeMs >= commitWaitMs
      ? "Most of it was writing: faster storage helps."
      : "Most of it was waiting for what was before the barrier: more workers for the slow stage, a smaller --max_bundle_size, or --unaligned_checkpoint_enabled help.";
  return {
    rail: "slower-than-interval",
    message: `A checkpoint took ${ms(durationMs)}, longer than --checkpointing_interval, ${ms(intervalMs)} (${parts}). ${why} An interval of ${ms(roundedUp(3 * durationMs))} leaves room.`,
  };
}

function longAlignment({ intervalMs, blockedMs }: CheckpointFacts): GuardRailWarning | undefined {
  if (blockedMs < LEAST_ALIGNMENT_MS || blockedMs <= intervalMs * ALIGNMENT_SHARE) return undefined;
  return {
    rail: "long-alignment",
    message: `A task held channels back for ${ms(blockedMs)} until a checkpoint's barrier had come on all of them: more than a tenth of --checkpointing_interval, ${ms(intervalMs)}. Its inputs are under backpressure or uneven: give the slow stage more workers, set --unaligned_checkpoint_enabled, or set the interval to ${ms(roundedUp(blockedMs / ALIGNMENT_SHARE))} or more.`,
  };
}

function localStorage({ storageDirectory, hasRemoteWorkers }: SettingsFacts): GuardRailWarning | undefined {
  if (storageDirectory === undefined || !hasRemoteWorkers) return undefined;
  return {
    rail: "local-storage",
    message: `Checkpoints go to the directory ${storageDirectory}, and some workers are on other machines: they need it, too. Mount it everywhere, or their state cannot be restored; or set --state_backend_storage_path to a store that all of them reach.`,
  };
}

/** By the quickest task: others may have waited for the processor. */
function slowStorage({ writes }: CheckpointFacts): GuardRailWarning | undefined {
  if (writes.length === 0) return undefined;
  const leastMs = Math.min(...writes.map(({ writeMs, byteLength }) => writeMs - byteLength / PUT_BYTES_PER_MS));
  if (leastMs <= SLOW_PUT_MS) return undefined;
  return {
    rail: "slow-storage",
    message: `The checkpoint storage is slow: the quickest task waited ${ms(leastMs)} for its file, beside the time that its bytes take. Use a store near the workers (the same region and data centre), one that answers within 200 ms.`,
  };
}

function fullSnapshots(facts: CheckpointFacts): GuardRailWarning | undefined {
  if (!isFullSnapshot(facts) || facts.fullInARow + 1 < FULL_IN_A_ROW) return undefined;
  const { writtenBytes, stateBytes, intervalMs } = facts;
  return {
    rail: "full-snapshots",
    message: `The last ${facts.fullInARow + 1} checkpoints wrote nearly all of the state each (${mib(writtenBytes)} of ${mib(stateBytes)}): incremental snapshots save nothing where all of it changes. Set --checkpointing_interval to ${ms(roundedUp(3 * intervalMs))} or more.`,
  };
}

function growingInFlight(facts: CheckpointFacts): GuardRailWarning | undefined {
  const { inFlightBytes, inFlightBefore, mostInFlight = "one task" } = facts;
  const sizes = [...inFlightBefore, inFlightBytes];
  const isGrowing = sizes.every((size, index) => index === 0 || size > (sizes[index - 1] as number));
  if (inFlightBytes < LARGE_IN_FLIGHT_BYTES || inFlightBefore.length < GROWING_IN_A_ROW || !isGrowing) return undefined;
  return {
    rail: "growing-in-flight",
    message: `Unaligned checkpoints hold more and more data that is on its way (${sizes.map(mib).join(", ")}, most of it at ${mostInFlight}): a stage falls behind, and a restore begins with all of that. Give the slow stage more workers, or set --limit exchangeCreditBytes lower (8 MiB by default) so that channels hold less.`,
  };
}

function ms(value: number): string {
  return `${Math.round(value)} ms`;
}

function mib(bytes: number): string {
  return `${Math.round(bytes / MIB)} MiB`;
}

/** To whole seconds, since a recommendation is no measurement. */
function roundedUp(valueMs: number): number {
  return Math.ceil(valueMs / 1_000) * 1_000;
}
