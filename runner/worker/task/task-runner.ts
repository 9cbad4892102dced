/**
 * Runs one task attempt of a bounded job: reads its sealed input partitions through the vertex's head (impulse, read
 * or group-by-key) into its stage or straight into its outputs, and seals what it wrote.
 *
 * Invariant: nothing that it wrote is visible before it has sealed all of it; a task that fails or is cancelled
 * discards everything.
 */
import { MonitoringInfoSet } from "../../base/monitoring-infos.ts";
import type { Chunk } from "../../base/chunk.ts";
import type { DatasetId } from "../../base/ids.ts";
import { present } from "../../base/assert.ts";
import { compileSkip } from "../../coders/element-boundary.ts";
import type { ExecutableStageSpec, VertexSpec } from "../../graph/execution-graph.ts";
import { GroupByKeyTable } from "../../state/grouping/group-by-key-table.ts";
import { sdkAbilities } from "./bundle-messages.ts";
import { DatasetOutputs } from "./dataset-outputs.ts";
import { IMPULSE_ELEMENT } from "./impulse.ts";
import type { DatasetWriter, SealedPartition } from "./ports.ts";
import { StageExecutor } from "./stage-executor.ts";
import { StageState } from "./stage-state.ts";
import type { TaskDeployment, TaskEnvironment, TaskResult } from "./task-environment.ts";

export class TaskRunner {
  readonly #environment: TaskEnvironment;
  readonly #task: TaskDeployment;
  readonly #signal: AbortSignal;
  readonly #onProgress: () => void;
  /** Of committed bundles. */
  readonly committed: MonitoringInfoSet;
  /** Of failed bundles, as far as they had told. */
  readonly #failed: MonitoringInfoSet;
  #executor: StageExecutor | undefined;
  /** Input that others process. */
  readonly #given: DatasetWriter[] = [];

  /** @param onProgress `attempted` has changed without a bundle's end */
  constructor(environment: TaskEnvironment, task: TaskDeployment, signal: AbortSignal, onProgress: () => void) {
    this.#onProgress = onProgress;
    this.#environment = environment;
    this.#task = task;
    this.#signal = signal;
    this.committed = this.#newInfos();
    this.#failed = this.#newInfos();
  }

  #newInfos(): MonitoringInfoSet {
    return new MonitoringInfoSet({ maxBytes: this.#environment.limits.metricsBytes });
  }

  /** Of committed, failed and running bundles; `committed` itself where there are no others. Not to be changed. */
  get attempted(): MonitoringInfoSet {
    const running = this.#executor?.runningInfos() ?? [];
    if (running.length === 0 && this.#failed.size === 0) return this.committed;
    const attempted = this.#newInfos();
    attempted.mergeAll(this.committed);
    attempted.mergeAll(this.#failed);
    for (const info of running) attempted.merge(info);
    return attempted;
  }

  /**
   * Seals part of what is left of the input for another task, as a dataset of its own, and tells of it before
   * anything else happens. @returns false when there is nothing to give, now
   */
  async giveAway(tell: (datasetId: DatasetId, partition: SealedPartition) => void): Promise<boolean> {
    const { vertex, attemptId } = this.#task;
    // A group belongs to the table that made it.
    if (vertex.head.kind !== "read" || this.#executor === undefined) return false;
    return this.#executor.giveAway(async (chunks) => {
      const datasetId = `${vertex.id}.given-away.${this.#given.length}` as DatasetId;
      const writer = this.#environment.openDataset(datasetId, attemptId, 1);
      this.#given.push(writer);
      const segment = writer.beginSegment();
      for (const chunk of chunks) await segment.append(0, chunk);
      this.#signal.throwIfAborted();
      segment.commit();
      tell(datasetId, present(writer.seal()[0], "the only partition"));
    });
  }

  /** @throws WeirError (LostPartitionError for lost input); all outputs have been discarded then. */
  async run(): Promise<TaskResult> {
    const { vertex } = this.#task;
    const outputs = new DatasetOutputs(this.#environment, this.#task);
    let table: GroupByKeyTable | undefined;
    let state: StageState | undefined;
    try {
      if (vertex.head.kind === "group-by-key") table = await this.#openTable(vertex.head);
      const input = table === undefined ? this.#read() : this.#group(table);
      if (vertex.stage === undefined) await this.#pass(input, outputs);
      else {
        state = await StageState.open({
          stage: vertex.stage,
          graph: this.#environment.graph,
          sideInput: this.#task.sideInput,
          store: this.#environment.sideInputs,
          reader: this.#environment.reader,
          table,
          pageBytes: this.#environment.limits.statePageBytes,
          signal: this.#signal,
        });
        await this.#runStage(vertex.stage, input, outputs, state);
      }
      return { sealed: outputs.seal() };
    } catch (failure) {
      await Promise.all([outputs.discard(), ...this.#given.map((writer) => writer.discard())]);
      throw failure;
    } finally {
      await state?.close();
      await table?.close();
    }
  }

  async *#read(): AsyncGenerator<Chunk> {
    if (this.#task.vertex.head.kind === "impulse") {
      yield { data: IMPULSE_ELEMENT, elementCount: 1 };
      return;
    }
    for (const ref of this.#task.mainInput) {
      if (ref.elementCount > 0) yield* this.#environment.reader.read(ref, this.#signal);
    }
  }

  async #openTable(head: Extract<VertexSpec["head"], { kind: "group-by-key" }>): Promise<GroupByKeyTable> {
    const { graph, limits, spillDirectory } = this.#environment;
    const { vertex } = this.#task;
    const input = present(graph.datasets[present(vertex.inputs[0], "the grouping's input")], "the input dataset");
    const merger = this.#environment.windowMerger(vertex);
    return GroupByKeyTable.open({
      coders: graph.coders,
      inputCoderId: input.coderId,
      outputCoderId: head.outputCoderId,
      windowing: present(graph.windowings[head.windowingId], "the grouping's windowing strategy"),
      // A token is only good for the task that made it.
      stateBacked: head.stateBacked && vertex.stage !== undefined,
      memoryBudgetBytes: limits.groupingMemoryBytes,
      stateBackedIterableBytes: limits.stateBackedIterableBytes,
      pageBytes: limits.statePageBytes,
      chunkBytes: limits.chunkBytes,
      spillDirectory,
      ...(merger === undefined ? {} : { mergeWindows: (windows) => merger.merge(windows, this.#signal) }),
    });
  }

  async *#group(table: GroupByKeyTable): AsyncGenerator<Chunk> {
    for await (const chunk of this.#read()) {
      const wait = table.add(chunk);
      if (wait !== undefined) await wait;
      this.#signal.throwIfAborted();
    }
    yield* table.groups();
  }

  async #pass(input: AsyncIterable<Chunk>, outputs: DatasetOutputs): Promise<void> {
    const bundle = outputs.begin();
    for await (const chunk of input) {
      await bundle.acceptHead(chunk);
      this.#signal.throwIfAborted();
    }
    bundle.commit();
  }

  async #runStage(
    stage: ExecutableStageSpec,
    input: AsyncIterable<Chunk>,
    outputs: DatasetOutputs,
    state: StageState,
  ): Promise<void> {
    const { limits, laneCount, clock, log, graph } = this.#environment;
    const { vertex } = this.#task;
    const elements = this.#task.mainInput.reduce((sum, ref) => sum + ref.elementCount, 0);
    // Restrictions are few and long: small bundles, so that a lost or failed one costs little and lanes share them.
    const perBundle = stage.splittable ? Math.max(1, Math.ceil(elements / 64)) : this.#environment.maxBundleElements;
    const executor = new StageExecutor({
      stageName: vertex.name,
      plan: {
        descriptorId: this.#environment.descriptorId(vertex.id),
        sourceTransformId: stage.sourceTransformId,
        sinkTransformIds: stage.sinks.map((sink) => sink.transformId),
        chunkBytes: limits.chunkBytes,
        skip: compileSkip(graph.coders, stage.inputCoderId),
        ...sdkAbilities(graph.environments[stage.environmentId]),
      },
      lanes: Array.from({ length: laneCount }, (_, lane) => ({
        harness: (signal: AbortSignal) => this.#environment.harness(stage.environmentId, lane, signal),
      })),
      inputElements: elements,
      output: outputs,
      onState: (request) => state.answer(request),
      onCommitted: (infos) => {
        for (const info of infos) this.committed.merge(info);
      },
      onFailed: (infos) => {
        for (const info of infos) this.#failed.merge(info);
      },
      onProgress: this.#onProgress,
      limits: {
        maxBundleBytes: limits.bundleInputBytes,
        maxBundleElements: Math.min(perBundle, this.#environment.maxBundleElements),
        maxBundleAttempts: limits.maxBundleAttempts,
        splitAfterMs: this.#environment.splitAfterMs,
        superviseMs: this.#environment.superviseMs,
        maxBundleTimeMs: this.#environment.maxBundleTimeMs,
      },
      clock,
      log,
      signal: this.#signal,
    });
    this.#executor = executor;
    await executor.run(input);
  }
}
