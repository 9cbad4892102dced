/**
 * Every limit of the process in one place, each with its reason; the relations between them are asserted.
 * Those that a user may set come in through `Limits`, built by the CLI from its flags.
 */
import { userError } from "./errors.ts";

export interface Limits {
  /** Bytes of committed shuffle data kept in a worker's memory before it goes to spill files. */
  readonly partitionMemoryBytes: number;
  /** Bytes of tentative (uncommitted) output of running bundles kept in memory before it goes to spill files. */
  readonly bundleMemoryBytes: number;
  /** Bytes of one grouping table before its input is spilled to hash partitions. */
  readonly groupingMemoryBytes: number;
  /** A group whose values are larger is handed to the SDK as a state-backed iterable. */
  readonly stateBackedIterableBytes: number;
  /** Bytes of side inputs kept in memory by a worker; larger ones are read from spill files. */
  readonly sideInputMemoryBytes: number;
  /** Bytes of encoded input of one bundle; retained until it commits. */
  readonly bundleInputBytes: number;
  /** Bytes of one StateGetResponse page, before a continuation token. */
  readonly statePageBytes: number;
  /** Exchange credit: bytes in transit of one channel between two workers. */
  readonly exchangeCreditBytes: number;
  /** Bytes of one chunk on a Data stream or exchange channel. */
  readonly chunkBytes: number;
  /** Input of a streaming task that waits for its bundle, beside the bundle that runs. */
  readonly queuedInputBytes: number;
  /** What each channel of a streaming job gets at least, however many share `bundleMemoryBytes`. */
  readonly minimumChannelBytes: number;
  /** What the state of each streaming task gets at least, however many tasks share `groupingMemoryBytes`. */
  readonly minimumStateBytes: number;
  /** One key with its values, where an SDK reads a map side input or a map state in bulk instead of key by key. */
  readonly mapEntryBytes: number;
  /** Metrics of a task; on the server, of a job. What does not fit is left out and counted. */
  readonly metricsBytes: number;
  /** Copies of a streaming job's snapshot files on the worker's disk, beside those in a remote store. */
  readonly localSnapshotBytes: number;
  /** Attempts of one bundle before its job fails. */
  readonly maxBundleAttempts: number;
}

/** Of the job server. */
export interface ServerLimits {
  /** Pipelines that were prepared and not run; the oldest are dropped beyond it, the newest never. */
  readonly unusedPipelineBytes: number;
  /** Text of the messages of a running job; the oldest go first. */
  readonly jobMessageBytes: number;
  /** As `Limits.metricsBytes`, of a job. */
  readonly metricsBytes: number;
}

const MIB = 1024 * 1024;
/** A tenth of a worker's default budget. */
const METRICS_BYTES = 48 * MIB;

/** What the command line has set, by name. */
export type LimitOverrides = Readonly<Partial<Record<keyof Limits | keyof ServerLimits, number>>>;

/**
 * Limits derived from one memory budget for a worker process.
 * @param overrides single limits that the user has set, by name; those of the server count for nothing
 * @throws WeirError INVALID_ARGUMENT for limits that contradict each other
 */
export function limitsFor(memoryBudgetBytes: number, maxBundleAttempts = 4, overrides: LimitOverrides = {}): Limits {
  const bundleInputBytes = overrides.bundleInputBytes ?? Math.min(16 * MIB, Math.floor(memoryBudgetBytes * 0.05));
  const limits: Limits = {
    // Half of the budget holds shuffle data, since blocking shuffle keeps whole datasets until they are consumed.
    partitionMemoryBytes: Math.floor(memoryBudgetBytes * 0.4),
    bundleMemoryBytes: Math.floor(memoryBudgetBytes * 0.15),
    groupingMemoryBytes: Math.floor(memoryBudgetBytes * 0.25),
    sideInputMemoryBytes: Math.floor(memoryBudgetBytes * 0.1),
    // Below it a state round trip costs more than decoding the group at once; above it the SDK would hold too much. Beam's
    // own test of it (test_gbk_many_values) has a group of 60 kB. A larger one is no list for user code, and has no len().
    stateBackedIterableBytes: 48 * 1024,
    bundleInputBytes,
    queuedInputBytes: Math.min(16 * MIB, bundleInputBytes),
    statePageBytes: 1 * MIB,
    exchangeCreditBytes: 8 * MIB,
    chunkBytes: 1 * MIB,
    // What makes a message worth its overhead.
    minimumChannelBytes: 64 * 1024,
    minimumStateBytes: 1 * MIB,
    // An SDK that is refused falls back to looking the key up.
    mapEntryBytes: 64 * MIB,
    metricsBytes: METRICS_BYTES,
    // Less than a disk has to spare beside what spills; the rest is fetched.
    localSnapshotBytes: 4096 * MIB,
    maxBundleAttempts,
    ...only(LIMIT_NAMES, overrides),
  };
  if (limits.chunkBytes > limits.exchangeCreditBytes)
    throw userError("INVALID_ARGUMENT", "The limit chunkBytes must not be larger than exchangeCreditBytes.");
  if (limits.chunkBytes > limits.bundleInputBytes)
    throw userError(
      "INVALID_ARGUMENT",
      "The limit chunkBytes must not be larger than bundleInputBytes.",
      "Give the worker more memory (--worker-memory-mb), or set the limit chunkBytes lower.",
    );
  return limits;
}

/** Limits of the job server. @param overrides as for `limitsFor`; those of workers count for nothing */
export function serverLimits(overrides: LimitOverrides = {}): ServerLimits {
  return {
    unusedPipelineBytes: 512 * MIB,
    jobMessageBytes: 16 * MIB,
    metricsBytes: METRICS_BYTES,
    ...only(SERVER_LIMIT_NAMES, overrides),
  };
}

function only<Name extends string>(
  names: readonly Name[],
  overrides: Readonly<Partial<Record<string, number>>>,
): Partial<Record<Name, number>> {
  return Object.fromEntries(
    names.flatMap((name) => (overrides[name] === undefined ? [] : [[name, overrides[name]]])),
  ) as Partial<Record<Name, number>>;
}

/** The names that a user may set: every byte budget of a worker. */
export const LIMIT_NAMES: readonly Exclude<keyof Limits, "maxBundleAttempts">[] = [
  "partitionMemoryBytes",
  "bundleMemoryBytes",
  "groupingMemoryBytes",
  "stateBackedIterableBytes",
  "sideInputMemoryBytes",
  "bundleInputBytes",
  "queuedInputBytes",
  "statePageBytes",
  "exchangeCreditBytes",
  "chunkBytes",
  "minimumChannelBytes",
  "minimumStateBytes",
  "mapEntryBytes",
  "metricsBytes",
  "localSnapshotBytes",
];

/** Those of the job server. */
export const SERVER_LIMIT_NAMES: readonly (keyof ServerLimits)[] = [
  "unusedPipelineBytes",
  "jobMessageBytes",
  "metricsBytes",
];

/**
 * Reads one NAME=BYTES of the command line into `limits`.
 * @param names those that the command knows
 * @throws WeirError INVALID_ARGUMENT for an unknown name or a value that is no positive whole number
 */
export function readLimit(text: string, names: readonly string[], limits: LimitOverrides = {}): LimitOverrides {
  const [name = "", value = ""] = text.split("=");
  if (!names.includes(name))
    throw userError("INVALID_ARGUMENT", `There is no limit "${name}".`, `The limits are ${names.join(", ")}.`);
  if (!/^[1-9]\d{0,14}$/.test(value))
    throw userError("INVALID_ARGUMENT", `The limit ${name} must be a positive number of bytes, not "${value}".`);
  return { ...limits, [name]: Number(value) };
}

/** Of one encoded element: what a protobuf message can hold, with room for what is around it. */
export const MAX_ELEMENT_BYTES = 2 ** 31 - MIB;

export const DEFAULT_MEMORY_BUDGET_BYTES = 512 * MIB;
/** A bundle or watermark that stands still for so long is told of in a job message. */
export const DEFAULT_STUCK_AFTER_MS = 300_000;
/** As Flink's lower bound for operators with parallelism below 86. */
export const DEFAULT_MAX_PARALLELISM = 128;
