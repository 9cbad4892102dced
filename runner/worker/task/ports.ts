/**
 * What a task needs from the world, as interfaces that the exchange, the Fn API and the environments implement, so
 * that tasks can be tested, and simulated, without a socket.
 */
import type { Chunk } from "../../base/chunk.ts";
import type { DatasetId, HarnessId, JobId, TaskAttemptId, WorkerId } from "../../base/ids.ts";
import type { EnvironmentSpec } from "../../graph/execution-graph.ts";

/** One sealed partition of one dataset as one task attempt wrote it. */
export interface PartitionRef {
  readonly jobId: JobId;
  readonly datasetId: DatasetId;
  readonly index: number;
  readonly attemptId: TaskAttemptId;
  readonly workerId: WorkerId;
  readonly exchangeAddress: string;
  readonly byteLength: number;
  readonly elementCount: number;
}

/** Reads sealed partitions, from this worker's store or another worker's exchange. */
export interface PartitionReader {
  /**
   * The partition's chunks in the order in which they were committed. Each is the caller's to keep.
   * @throws LostPartitionError when the worker that holds it does not answer or does not have it.
   */
  read(ref: PartitionRef, signal: AbortSignal): AsyncIterable<Chunk>;
}

/** Where a task's output of one dataset goes, cut into partitions. */
export interface DatasetWriter {
  /** A segment for one bundle attempt: nothing of it is visible before `commit`. */
  beginSegment(): TentativeSegment;
  /** Ends the dataset: nothing can be written any more. @returns one entry per partition. */
  seal(): readonly SealedPartition[];
  /** Drops everything, sealed or not. Idempotent. */
  discard(): Promise<void>;
}

export interface TentativeSegment {
  /**
   * Adds whole encoded elements for one partition. The segment takes ownership of the bytes.
   * Resolves when the segment is below its memory budget again (it spills past the budget).
   */
  append(partition: number, chunk: Chunk): Promise<void> | void;
  /** Makes the segment part of its dataset in one step, in order. Synchronous: no await between decision and effect. */
  commit(): void;
  /** Drops it. Idempotent. */
  abort(): void;
}

export interface SealedPartition {
  readonly index: number;
  readonly byteLength: number;
  readonly elementCount: number;
}

/** Where an SDK harness finds its runner; each is HOST:PORT. */
export interface HarnessEndpoints {
  readonly control: string;
  readonly logging: string;
  readonly provision: string;
  readonly artifact: string;
  readonly status: string;
}

export interface HarnessStart {
  readonly jobId: JobId;
  readonly harnessId: HarnessId;
  readonly environment: EnvironmentSpec;
  readonly endpoints: HarnessEndpoints;
  /** Pipeline options as JSON object, as the provision service gives them. */
  readonly pipelineOptions: Readonly<Record<string, unknown>>;
  readonly signal: AbortSignal;
}

export type HarnessExit = {
  /** What happened, for people: the exit code or signal, or what the pool said. */
  readonly reason: string;
  /** The last lines that the harness printed, oldest first; empty where we do not see them. */
  readonly lastOutput: readonly string[];
  /** By SIGKILL: somebody else's doing, a kernel short of memory or a person, not the program's. */
  readonly isKilled?: boolean;
};

/** A harness that was started. It is usable when its control stream has connected, which the Fn API server tells. */
export interface StartedHarness {
  /** Resolves once when the process is known to be gone; never for environments that do not tell. */
  readonly exited: Promise<HarnessExit>;
  /** True where `exited` resolves soon after the process has ended. */
  readonly tellsExit?: boolean;
  /** Ends it and reaps all its processes. Idempotent. */
  stop(): Promise<void>;
}

/** Starts harnesses of one kind or of several. */
export interface HarnessLauncher {
  /** @throws WeirError naming the environment, with the way out, when it cannot be started here. */
  start(request: HarnessStart): Promise<StartedHarness>;
}
