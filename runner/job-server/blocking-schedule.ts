/**
 * Decides what of a bounded job runs when, and what must run again after a loss. Pure: facts in, decisions out.
 *
 * A vertex becomes ready when every dataset that it reads is sealed by all subtasks of its producer. A lost sealed
 * partition that is still needed makes its producer run again, and everything that consumed the lost attempt, since
 * user code need not write the same bytes twice (Flink: region failover of blocking edges).
 */
import { assert, present } from "../base/assert.ts";
import type { DatasetId, TaskAttemptId, VertexId, WorkerId } from "../base/ids.ts";
import type { ExecutionGraph, VertexSpec } from "../graph/execution-graph.ts";

export interface SealedPartitionFact {
  readonly index: number;
  readonly byteLength: number;
  readonly elementCount: number;
}

export interface SealedDatasetFact {
  readonly datasetId: DatasetId;
  readonly partitions: readonly SealedPartitionFact[];
}

/** A partition to read, and who holds it. */
export interface InputPartition extends SealedPartitionFact {
  readonly datasetId: DatasetId;
  readonly attemptId: TaskAttemptId;
  readonly workerId: WorkerId;
}

export interface PlannedTask {
  readonly attemptId: TaskAttemptId;
  readonly vertex: VertexSpec;
  readonly subtaskIndex: number;
  readonly parallelism: number;
  readonly mainInput: readonly InputPartition[];
  readonly sideInput: readonly InputPartition[];
  readonly outputPartitions: Readonly<Record<DatasetId, number>>;
  readonly attemptNumber: number;
}

export interface ScheduleInit {
  readonly graph: ExecutionGraph;
  /** Partitions of shuffled datasets, and the most subtasks of a vertex. */
  readonly parallelism: number;
  /** True when the user asked for that parallelism: then small vertices are not run in fewer subtasks. */
  readonly explicitParallelism: boolean;
  /** Input bytes that one subtask takes before another one is worth starting. */
  readonly bytesPerSubtask: number;
  readonly maxTaskAttempts: number;
}

interface Subtask {
  attemptNumber: number;
  failures: number;
  state:
    | { readonly kind: "planned" }
    | { readonly kind: "running"; readonly attemptId: TaskAttemptId; readonly workerId: WorkerId }
    | {
        readonly kind: "finished";
        readonly attemptId: TaskAttemptId;
        readonly workerId: WorkerId;
        readonly sealed: ReadonlyMap<DatasetId, readonly SealedPartitionFact[]>;
      };
  /** Partition indexes of hash and rebalance datasets that it reads. */
  readonly partitions: readonly number[];
  /** Of one that was split off from a running attempt: what it reads instead, by that attempt's grace. */
  readonly givenAway: InputPartition | undefined;
}

interface VertexRun {
  readonly spec: VertexSpec;
  readonly inputs: ReadonlySet<DatasetId>;
  readonly outputs: readonly DatasetId[];
  subtasks: Subtask[] | undefined;
  /**
   * Workers and inputs lost while it ran, with no subtask finished in between: user code that kills its worker must
   * not run forever. Not of a subtask, since subtasks are cut anew when their input is made again.
   */
  losses: number;
}

export class BlockingSchedule {
  readonly #init: ScheduleInit;
  readonly #runs = new Map<VertexId, VertexRun>();
  readonly runs: ReadonlyMap<VertexId, Readonly<VertexRun>> = this.#runs;
  readonly #attempts = new Map<TaskAttemptId, { run: VertexRun; subtask: Subtask }>();
  #attemptCounter = 0;

  constructor(init: ScheduleInit) {
    this.#init = init;
    for (const spec of init.graph.vertices) {
      const side = spec.stage?.sideInputs.flatMap((input) => input.datasets) ?? [];
      const outputs = [
        ...new Set([...spec.headOutputs, ...(spec.stage?.sinks.flatMap((sink) => sink.datasets) ?? [])]),
      ];
      this.#runs.set(spec.id, {
        spec,
        inputs: new Set([...spec.inputs, ...side]),
        outputs,
        subtasks: undefined,
        losses: 0,
      });
    }
  }

  /** True when every vertex has finished. */
  get done(): boolean {
    return [...this.#runs.values()].every((run) => this.#finished(run));
  }

  /** Tasks that can start now, at most `limit`. They count as running once `started` was called. */
  ready(limit: number): PlannedTask[] {
    const tasks: PlannedTask[] = [];
    for (const run of this.#runs.values()) {
      if (tasks.length >= limit) break;
      if (this.#finished(run) || !this.#inputsSealed(run)) continue;
      run.subtasks ??= this.#cut(run);
      for (const [index, subtask] of run.subtasks.entries()) {
        if (subtask.state.kind !== "planned" || tasks.length >= limit) continue;
        tasks.push(this.#plan(run, index, subtask));
      }
    }
    return tasks;
  }

  started(task: PlannedTask, workerId: WorkerId): void {
    const run = present(this.#runs.get(task.vertex.id), "the task's vertex");
    const subtask = present(run.subtasks?.[task.subtaskIndex], "the subtask");
    assert(subtask.state.kind === "planned", "a task starts once");
    subtask.state = { kind: "running", attemptId: task.attemptId, workerId };
    this.#attempts.set(task.attemptId, { run, subtask });
  }

  /** False when the attempt is stale: what it wrote must be released. */
  finished(attemptId: TaskAttemptId, sealed: readonly SealedDatasetFact[]): boolean {
    const known = this.#running(attemptId);
    if (known === undefined) return false;
    const workerId = known.workerId;
    known.run.losses = 0;
    known.subtask.state = {
      kind: "finished",
      attemptId,
      workerId,
      sealed: new Map(sealed.map((dataset) => [dataset.datasetId, dataset.partitions])),
    };
    return true;
  }

  /**
   * An attempt failed in a way that may pass. @returns attempts that must be cancelled and released with it, or why
   * the job has failed.
   */
  failed(
    attemptId: TaskAttemptId,
    lostInputs: readonly TaskAttemptId[],
  ): { kind: "stale" } | { kind: "restart"; cancel: TaskAttemptId[] } | { kind: "exhausted" } {
    const known = this.#running(attemptId);
    if (known === undefined) return { kind: "stale" };
    const { subtask } = known;
    subtask.failures++;
    if (lostInputs.length > 0) known.run.losses++;
    if (Math.max(subtask.failures, known.run.losses) >= this.#init.maxTaskAttempts) return { kind: "exhausted" };
    const cancel: TaskAttemptId[] = [];
    this.#unstart(known.run, subtask, cancel);
    for (const lost of lostInputs) {
      const producer = this.#attempts.get(lost);
      if (producer !== undefined && hasFinished(producer.subtask, lost))
        this.#reset(producer.run, producer.subtask, cancel);
    }
    return { kind: "restart", cancel };
  }

  /**
   * A worker is gone with all that it held. @returns attempts that no longer count, to cancel and release (some were
   * released before), or the name of the vertex that has lost a worker each time it ran.
   */
  workerLost(workerId: WorkerId): { kind: "restart"; cancel: TaskAttemptId[] } | { kind: "exhausted"; name: string } {
    const cancel: TaskAttemptId[] = [];
    // Consumers first: whether a producer's output is still needed depends on who has finished.
    for (const run of [...this.#runs.values()].reverse()) {
      const subtasks = run.subtasks ?? [];
      const isHit = subtasks.some(({ state }) => state.kind === "running" && state.workerId === workerId);
      if (isHit && ++run.losses >= this.#init.maxTaskAttempts) return { kind: "exhausted", name: run.spec.name };
      for (const subtask of subtasks) {
        // It may have gone with the attempt that it was split off from.
        if (run.subtasks?.includes(subtask) !== true) continue;
        if (subtask.state.kind === "running" && subtask.state.workerId === workerId)
          this.#unstart(run, subtask, cancel);
        else if (subtask.state.kind === "finished" && subtask.state.workerId === workerId) {
          const { attemptId } = subtask.state;
          const isGiver = subtasks.some((child) => child.givenAway?.attemptId === attemptId && !isFinished(child));
          if (isGiver || this.#stillNeeded(run)) this.#reset(run, subtask, cancel);
        }
      }
    }
    return { kind: "restart", cancel };
  }

  /**
   * A running attempt has given part of its input away, for another subtask to process. That one's results count as
   * long as the attempt's own do. @returns false when the attempt does not count any more, nor what it gave
   */
  split(attemptId: TaskAttemptId, givenAway: InputPartition): boolean {
    const known = this.#running(attemptId);
    if (known === undefined) return false;
    const { subtasks } = known.run;
    present(subtasks, "the subtasks of a running vertex").push({
      attemptNumber: 0,
      failures: 0,
      state: { kind: "planned" },
      partitions: known.subtask.partitions,
      givenAway,
    });
    return true;
  }

  /** Whether other workers could help a running attempt: its elements are independent, and the vertex may be wider. */
  isSplittable(attemptId: TaskAttemptId): boolean {
    const known = this.#running(attemptId);
    if (known === undefined) return false;
    const { spec, subtasks } = known.run;
    const running = (subtasks ?? []).filter(({ state }) => state.kind === "running").length;
    const independent = spec.head.kind === "read" && spec.stage !== undefined && !spec.keyed && !spec.singleton;
    return independent && running < this.#init.parallelism;
  }

  /** Attempts whose datasets nobody will read any more; each is told once. */
  releasable(): TaskAttemptId[] {
    const released: TaskAttemptId[] = [];
    for (const run of this.#runs.values()) {
      if (run.outputs.length === 0 || !this.#finished(run) || this.#stillNeeded(run)) continue;
      for (const subtask of run.subtasks ?? []) {
        if (subtask.state.kind === "finished" && this.#attempts.delete(subtask.state.attemptId))
          released.push(subtask.state.attemptId);
      }
    }
    return released;
  }

  /** Attempts that run now. */
  running(): { readonly attemptId: TaskAttemptId; readonly workerId: WorkerId }[] {
    return [...this.#runs.values()].flatMap((run) =>
      (run.subtasks ?? []).flatMap(({ state }) => (state.kind === "running" ? [state] : [])),
    );
  }

  /** False when the attempt has ended or was taken back. */
  isRunning(attemptId: TaskAttemptId): boolean {
    return this.#running(attemptId) !== undefined;
  }

  /** True when the attempt was started, and what it wrote does not count, or not any more. */
  wasTakenBack(attemptId: TaskAttemptId): boolean {
    const known = this.#attempts.get(attemptId);
    return known !== undefined && !hasFinished(known.subtask, attemptId);
  }

  /** Attempts whose results count. */
  finishedAttempts(): TaskAttemptId[] {
    return [...this.#runs.values()].flatMap((run) =>
      (run.subtasks ?? []).flatMap(({ state }) => (state.kind === "finished" ? [state.attemptId] : [])),
    );
  }

  #running(attemptId: TaskAttemptId) {
    const known = this.#attempts.get(attemptId);
    if (known === undefined || known.subtask.state.kind !== "running") return undefined;
    return known.subtask.state.attemptId === attemptId
      ? { ...known, workerId: known.subtask.state.workerId }
      : undefined;
  }

  #finished(run: VertexRun): boolean {
    return run.subtasks !== undefined && run.subtasks.every(isFinished);
  }

  #producerOf(datasetId: DatasetId): VertexRun {
    const dataset = present(this.#init.graph.datasets[datasetId], `dataset ${datasetId}`);
    return present(this.#runs.get(dataset.producer), `producer of dataset ${datasetId}`);
  }

  #inputsSealed(run: VertexRun): boolean {
    for (const datasetId of run.inputs) if (!this.#finished(this.#producerOf(datasetId))) return false;
    return true;
  }

  #consumersOf(run: VertexRun): VertexRun[] {
    return [...this.#runs.values()].filter((candidate) => run.outputs.some((output) => candidate.inputs.has(output)));
  }

  #stillNeeded(run: VertexRun): boolean {
    return this.#consumersOf(run).some((consumer) => !this.#finished(consumer));
  }

  /** Runs a finished subtask again, with everything that consumed what it had written. */
  #reset(run: VertexRun, subtask: Subtask, cancel: TaskAttemptId[]): void {
    if (subtask.state.kind === "planned") return;
    cancel.push(subtask.state.attemptId);
    this.#unstart(run, subtask, cancel);
    for (const consumer of this.#consumersOf(run)) {
      // How its input is cut may change with the new sizes.
      for (const consuming of consumer.subtasks ?? []) this.#reset(consumer, consuming, cancel);
      consumer.subtasks = undefined;
    }
    for (const datasetId of run.inputs) {
      const producer = this.#producerOf(datasetId);
      for (const producing of producer.subtasks ?? []) {
        const { state } = producing;
        // Released already: it has to be made again.
        if (state.kind === "finished" && !this.#attempts.has(state.attemptId)) this.#reset(producer, producing, cancel);
      }
    }
  }

  /** Its attempt does not count any more, nor does what was split off from it: the next attempt has all of its input. */
  #unstart(run: VertexRun, subtask: Subtask, cancel: TaskAttemptId[]): void {
    if (subtask.state.kind === "planned") return;
    const { attemptId } = subtask.state;
    subtask.state = { kind: "planned" };
    const dropped = (run.subtasks ?? []).filter(({ givenAway }) => givenAway?.attemptId === attemptId);
    run.subtasks = run.subtasks?.filter((kept) => !dropped.includes(kept));
    for (const child of dropped) {
      if (child.state.kind !== "planned") cancel.push(child.state.attemptId);
      this.#unstart(run, child, cancel);
    }
  }

  #partitionCount(datasetId: DatasetId): number {
    const dataset = present(this.#init.graph.datasets[datasetId], `dataset ${datasetId}`);
    return dataset.partitioner === "broadcast" ? 1 : this.#init.parallelism;
  }

  #sealedBy(datasetId: DatasetId): { subtask: Subtask; partitions: readonly SealedPartitionFact[] }[] {
    return (this.#producerOf(datasetId).subtasks ?? []).map((subtask) => {
      assert(subtask.state.kind === "finished", "inputs are read when sealed");
      return { subtask, partitions: subtask.state.sealed.get(datasetId) ?? [] };
    });
  }

  #cut(run: VertexRun): Subtask[] {
    const { parallelism, explicitParallelism, bytesPerSubtask } = this.#init;
    const all = Array.from({ length: parallelism }, (_, index) => index);
    const subtask = (partitions: readonly number[]): Subtask => ({
      attemptNumber: 0,
      failures: 0,
      state: { kind: "planned" },
      partitions,
      givenAway: undefined,
    });
    if (run.spec.singleton || run.spec.head.kind === "impulse") return [subtask(all)];
    let bytes = 0;
    let sized = 0;
    for (const datasetId of run.spec.inputs) {
      const isSized = this.#init.graph.datasets[datasetId]?.sizedRestrictions === true;
      for (const { partitions } of this.#sealedBy(datasetId))
        for (const partition of partitions) {
          bytes += partition.byteLength;
          if (isSized) sized += partition.elementCount;
        }
    }
    const wanted = explicitParallelism ? parallelism : Math.max(1, Math.ceil(bytes / bytesPerSubtask), sized);
    const count = Math.min(parallelism, wanted);
    return Array.from({ length: count }, (_, index) =>
      subtask(all.slice(Math.floor((index * parallelism) / count), Math.floor(((index + 1) * parallelism) / count))),
    );
  }

  #plan(run: VertexRun, subtaskIndex: number, subtask: Subtask): PlannedTask {
    const inputsOf = (datasetIds: Iterable<DatasetId>, wanted: ReadonlySet<number>): InputPartition[] =>
      [...datasetIds].flatMap((datasetId) =>
        this.#sealedBy(datasetId).flatMap(({ subtask: producer, partitions }) => {
          const { state } = producer;
          assert(state.kind === "finished", "inputs are read when sealed");
          return partitions
            .filter((partition) => this.#partitionCount(datasetId) === 1 || wanted.has(partition.index))
            .map((partition) => ({ ...partition, datasetId, attemptId: state.attemptId, workerId: state.workerId }));
        }),
      );
    const side = new Set(run.spec.stage?.sideInputs.flatMap((input) => input.datasets) ?? []);
    return {
      attemptId: `${run.spec.id}.${subtaskIndex}.${++this.#attemptCounter}` as TaskAttemptId,
      vertex: run.spec,
      subtaskIndex,
      parallelism: run.subtasks?.length ?? 1,
      mainInput:
        subtask.givenAway === undefined ? inputsOf(run.spec.inputs, new Set(subtask.partitions)) : [subtask.givenAway],
      sideInput: inputsOf(side, new Set([0])),
      outputPartitions: Object.fromEntries(run.outputs.map((id) => [id, this.#partitionCount(id)])),
      attemptNumber: ++subtask.attemptNumber,
    };
  }
}

function isFinished({ state }: Subtask): boolean {
  return state.kind === "finished";
}

function hasFinished({ state }: Subtask, attemptId: TaskAttemptId): boolean {
  return state.kind === "finished" && state.attemptId === attemptId;
}
