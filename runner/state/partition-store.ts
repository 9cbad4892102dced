/**
 * The shuffle data of one worker: every dataset that its tasks write, by job, task attempt and dataset, under one
 * memory budget for what is committed and one for what is not. What does not fit goes to spill files, the largest
 * partition first.
 *
 * Invariants: a partition is readable from its seal to its release; an attempt's data is dropped as a whole. Nothing
 * here knows what the bytes mean.
 */
import type { Chunk } from "../base/chunk.ts";
import { WeirError } from "../base/errors.ts";
import type { DatasetId, JobId, TaskAttemptId } from "../base/ids.ts";
import { Dataset } from "./dataset.ts";
import { MemoryBudget } from "./memory-budget.ts";
import { SpillFile } from "./spill-file.ts";

export interface PartitionStoreInit {
  /** For spill files; made when it is not there. */
  readonly directory: string;
  /** Committed bytes kept in memory. */
  readonly partitionMemoryBytes: number;
  /** Bytes of tentative segments kept in memory. */
  readonly bundleMemoryBytes: number;
  /** Instead of a new file in `directory`. */
  readonly openSpillFile?: (label: string) => Promise<SpillFile>;
}

export interface DatasetKey {
  readonly jobId: JobId;
  readonly datasetId: DatasetId;
  readonly attemptId: TaskAttemptId;
}

/** A partition as its readers name it; a PartitionRef is one. */
export interface PartitionKey extends DatasetKey {
  readonly index: number;
}

export class PartitionStore {
  readonly #init: PartitionStoreInit;
  readonly #partitionBudget: MemoryBudget;
  readonly #bundleBudget: MemoryBudget;
  readonly #jobs = new Map<JobId, Map<TaskAttemptId, Map<DatasetId, Dataset>>>();
  #closed = false;

  private constructor(init: PartitionStoreInit) {
    this.#init = init;
    this.#partitionBudget = new MemoryBudget(init.partitionMemoryBytes);
    this.#bundleBudget = new MemoryBudget(init.bundleMemoryBytes);
  }

  static open(init: PartitionStoreInit): Promise<PartitionStore> {
    return Promise.resolve(new PartitionStore(init));
  }

  /** Bytes held in memory, committed or not. */
  get memoryBytes(): number {
    return this.#partitionBudget.usedBytes + this.#bundleBudget.usedBytes;
  }

  /** The writer of a dataset's partitions; a DatasetWriter of the tasks' ports. @throws WeirError ALREADY_EXISTS. */
  openDataset(init: DatasetKey & { readonly partitions: number }): Dataset {
    const { jobId, datasetId, attemptId, partitions } = init;
    const name = `Dataset ${datasetId} of task attempt ${attemptId}`;
    if (this.#closed)
      throw new WeirError({ code: "ABORTED", domain: "internal", message: `${name}: the worker is ending.` });
    if (this.#find(init) !== undefined)
      throw new WeirError({ code: "ALREADY_EXISTS", domain: "internal", message: `${name} is written already.` });
    const dataset: Dataset = new Dataset({
      name,
      partitions,
      partitionBudget: this.#partitionBudget,
      bundleBudget: this.#bundleBudget,
      openSpillFile: () => this.#openSpillFile("shuffle"),
      onDiscard: () => this.#forget(init, dataset),
    });
    getOrAdd(getOrAdd(this.#jobs, jobId), attemptId).set(datasetId, dataset);
    return dataset;
  }

  #openSpillFile(label: string): Promise<SpillFile> {
    const { openSpillFile, directory } = this.#init;
    return openSpillFile === undefined ? SpillFile.open(directory, label) : openSpillFile(label);
  }

  #find(key: DatasetKey): Dataset | undefined {
    return this.#jobs.get(key.jobId)?.get(key.attemptId)?.get(key.datasetId);
  }

  #forget({ jobId, attemptId, datasetId }: DatasetKey, dataset: Dataset): void {
    const attempts = this.#jobs.get(jobId);
    const datasets = attempts?.get(attemptId);
    if (datasets?.get(datasetId) !== dataset) return;
    datasets.delete(datasetId);
    if (datasets.size === 0) attempts?.delete(attemptId);
    if (attempts?.size === 0) this.#jobs.delete(jobId);
  }

  /** True when the partition can be read. */
  has(key: DatasetKey): boolean {
    return this.#find(key)?.isSealed ?? false;
  }

  /**
   * The chunks of a sealed partition, in the order in which they were committed; small ones are joined. Each is the
   * caller's to keep and not to change. Any number of readers at a time.
   * @param joinedBytes up to what size chunks in memory are joined.
   * @throws WeirError NOT_FOUND when it is not here or not sealed, ABORTED when it is released while it is read,
   * DATA_LOSS when the disk does not give it back, or the signal's reason.
   */
  async *read(key: PartitionKey, signal: AbortSignal, joinedBytes?: number): AsyncGenerator<Chunk> {
    signal.throwIfAborted();
    const dataset = this.#find(key);
    if (dataset === undefined || !dataset.isSealed || key.index < 0 || key.index >= dataset.partitionCount)
      throw new WeirError({
        code: "NOT_FOUND",
        domain: "internal",
        message: `Partition ${key.index} of dataset ${key.datasetId} by task attempt ${key.attemptId} is not on this worker.`,
      });
    yield* dataset.read(key.index, signal, joinedBytes);
  }

  /** Drops what the attempt wrote, sealed or not. Idempotent. */
  async releaseAttempt(jobId: JobId, attemptId: TaskAttemptId): Promise<void> {
    await discardAll(this.#jobs.get(jobId)?.get(attemptId)?.values() ?? []);
  }

  /** Drops everything of the job. Idempotent. */
  async releaseJob(jobId: JobId): Promise<void> {
    const attempts = [...(this.#jobs.get(jobId)?.values() ?? [])];
    await discardAll(attempts.flatMap((datasets) => [...datasets.values()]));
  }

  /** Drops everything. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#jobs.keys()].map((jobId) => this.releaseJob(jobId)));
  }
}

async function discardAll(datasets: Iterable<Dataset>): Promise<void> {
  await Promise.all([...datasets].map((dataset) => dataset.discard()));
}

function getOrAdd<Key, Inner, Value>(outer: Map<Key, Map<Inner, Value>>, key: Key): Map<Inner, Value> {
  let inner = outer.get(key);
  if (inner === undefined) {
    inner = new Map();
    outer.set(key, inner);
  }
  return inner;
}
