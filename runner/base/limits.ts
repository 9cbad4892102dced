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
  /** Attempts of one bundle before its job fails. */
  readonly maxBundleAttempts: number;
}

const MIB = 1024 * 1024;

/**
 * Limits derived from one memory budget for a worker process.
 * @param overrides single limits that the user has set, by name
 * @throws WeirError INVALID_ARGUMENT for limits that contradict each other
 */
export function limitsFor(
  memoryBudgetBytes: number,
  maxBundleAttempts = 4,
  overrides: Readonly<Partial<Record<keyof Limits, number>>> = {},
): Limits {
  const limits: Limits = {
    // Half of the budget holds shuffle data, since blocking shuffle keeps whole datasets until they are consumed.
    partitionMemoryBytes: Math.floor(memoryBudgetBytes * 0.4),
    bundleMemoryBytes: Math.floor(memoryBudgetBytes * 0.15),
    groupingMemoryBytes: Math.floor(memoryBudgetBytes * 0.25),
    sideInputMemoryBytes: Math.floor(memoryBudgetBytes * 0.1),
    // Below it a state round trip costs more than decoding the group at once; above it the SDK would hold too much.
    stateBackedIterableBytes: 48 * 1024,
    bundleInputBytes: Math.min(16 * MIB, Math.floor(memoryBudgetBytes * 0.05)),
    statePageBytes: 1 * MIB,
    exchangeCreditBytes: 8 * MIB,
    chunkBytes: 1 * MIB,
    maxBundleAttempts,
    ...overrides,
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

/** The names that a user may set: every byte budget, and the attempts. */
export const LIMIT_NAMES: readonly (keyof Limits)[] = [
  "partitionMemoryBytes",
  "bundleMemoryBytes",
  "groupingMemoryBytes",
  "stateBackedIterableBytes",
  "sideInputMemoryBytes",
  "bundleInputBytes",
  "statePageBytes",
  "exchangeCreditBytes",
  "chunkBytes",
];

/**
 * Reads one NAME=BYTES of the command line into `limits`.
 * @throws WeirError INVALID_ARGUMENT for an unknown name or a value that is no positive whole number
 */
export function readLimit(
  text: string,
  limits: Readonly<Partial<Record<keyof Limits, number>>> = {},
): Partial<Record<keyof Limits, number>> {
  const [name = "", value = ""] = text.split("=");
  const known = LIMIT_NAMES.find((candidate) => candidate === name);
  if (known === undefined)
    throw userError("INVALID_ARGUMENT", `There is no limit "${name}".`, `The limits are ${LIMIT_NAMES.join(", ")}.`);
  if (!/^[1-9]\d{0,14}$/.test(value))
    throw userError("INVALID_ARGUMENT", `The limit ${name} must be a positive number of bytes, not "${value}".`);
  return { ...limits, [known]: Number(value) };
}

export const DEFAULT_MEMORY_BUDGET_BYTES = 512 * MIB;
/** As Flink's lower bound for operators with parallelism below 86. */
export const DEFAULT_MAX_PARALLELISM = 128;
