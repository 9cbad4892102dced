/**
 * One task of a streaming job on a TypeScript harness in this process. The test holds the other ends of its channels,
 * as another worker would, takes its snapshots, and starts it again from one.
 */
import { ProcessBundleDescriptor } from "../../proto/gen/beam_fn_api.ts";
import { present } from "../../runner/base/assert.ts";
import type { Clock } from "../../runner/base/clock.ts";
import { limitsFor } from "../../runner/base/limits.ts";
import { silentLog } from "../../runner/base/log.ts";
import { buildExecutionGraph } from "../../runner/graph/build-execution-graph.ts";
import type { ExecutionGraph, VertexSpec } from "../../runner/graph/execution-graph.ts";
import type { StateRows, StateTable } from "../../runner/state/state-rows.ts";
import type { Timestamp } from "../../runner/time/timestamp.ts";
import {
  type Barrier,
  type ChannelItem,
  ChannelQueue,
  type InFlightItem,
} from "../../runner/worker/stream/channel-queue.ts";
import type { InFlightRow } from "../../runner/worker/stream/in-flight/in-flight-rows.ts";
import { JobClock } from "../../runner/worker/stream/job-clock.ts";
import { passingData } from "../../runner/worker/stream/spilled-output.ts";
import type { SnapshotReport } from "../../runner/worker/stream/stream-task-environment.ts";
import { StreamTask } from "../../runner/worker/stream/stream-task.ts";
import { DescriptorPlan } from "../../sdk-harness/descriptor-plan.ts";
import { decodeAll, encodeWith } from "../../sdk-harness/element-coders.ts";
import type { FunctionRegistry } from "../../sdk-harness/user-functions.ts";
import type { Window, WindowedValue } from "../../sdk-harness/windows.ts";
import type { TestPipeline } from "../pipelines/test-pipeline.ts";
import { startInProcessHarness } from "./in-process-harness.ts";

type Tables = ReadonlyMap<string, ReadonlyMap<string, Uint8Array>>;

export interface TakenSnapshot {
  readonly rows: Tables;
  /** By table. */
  readonly inFlight: Tables;
  readonly report: SnapshotReport;
}

const CAPACITY_BYTES = 1 << 20;

/** Rows in plain maps, of which a copy can be taken. */
class CopiedRows implements StateRows {
  readonly #tables = new Map<string, Map<string, Uint8Array>>();

  constructor(...restored: readonly Tables[]) {
    for (const tables of restored) for (const [name, rows] of tables) this.#tables.set(name, new Map(rows));
  }

  table(name: string): StateTable {
    const rows = this.#tables.get(name) ?? new Map<string, Uint8Array>();
    this.#tables.set(name, rows);
    return {
      get: (key) => rows.get(key),
      put: (key, value) => void rows.set(key, value),
      delete: (key) => void rows.delete(key),
      entries: () => rows.entries(),
    };
  }

  copy(): Tables {
    return new Map([...this.#tables].map(([name, rows]) => [name, new Map(rows)]));
  }
}

export class TaskOnHarness {
  readonly #inputs = new Map<string, ChannelQueue>();
  readonly #outputs: ChannelQueue[] = [];
  readonly #plan: DescriptorPlan;
  readonly #task: StreamTask;
  readonly #snapshots = new Map<number, TakenSnapshot>();
  #failure: unknown;

  /**
   * @param transformId of a vertex with one main input and at most one side input, whose elements have the same coder;
   * each from one subtask, and each output to one
   * @param snapshot from which it goes on
   */
  constructor(
    pipeline: TestPipeline,
    transformId: string,
    functions: FunctionRegistry,
    clock: Clock,
    snapshot?: TakenSnapshot,
  ) {
    const graph = buildExecutionGraph(pipeline.pipeline);
    const vertex = vertexOf(graph, transformId);
    const stage = present(vertex.stage, "a stage");
    const descriptor = ProcessBundleDescriptor.decode(stage.descriptor);
    this.#plan = new DescriptorPlan(descriptor);
    const { connection } = startInProcessHarness({
      harnessId: "h1",
      functions,
      descriptor: () => descriptor,
      nowMs: () => clock.nowMs(),
    });
    const rows = snapshot === undefined ? new CopiedRows() : new CopiedRows(snapshot.rows, snapshot.inFlight);
    const taken = new Map<number, { readonly rows: Tables; readonly inFlight: Tables }>();
    const limits = limitsFor(1 << 28);
    const inputs = [...vertex.inputs, ...stage.sideInputs.flatMap(({ datasets }) => datasets)];
    const of = { jobId: "job", region: 0, executionAttempt: 1, producerSubtask: 0, consumerSubtask: 0 };
    for (const datasetId of inputs)
      this.#inputs.set(datasetId, new ChannelQueue({ ...of, datasetId, consumerVertexId: vertex.id }, CAPACITY_BYTES));
    this.#task = new StreamTask(
      {
        jobId: of.jobId,
        region: of.region,
        graph,
        maxParallelism: 128,
        maxBundleElements: 100,
        maxBundleTimeMs: 1_000,
        firesTimersAtEnd: false,
        gathersInput: false,
        limits,
        maxQueuedBytes: CAPACITY_BYTES,
        channelCapacityBytes: CAPACITY_BYTES,
        spillDirectory: undefined,
        channels: {
          openOutput: (id, capacityBytes) => {
            const queue = new ChannelQueue(id, capacityBytes);
            this.#outputs.push(queue);
            return queue;
          },
          openInput: () => {
            throw new Error("Inputs are opened already.");
          },
          closeRegion: () => undefined,
        },
        rows,
        scratch: undefined,
        checkpoints: true,
        barriersBlock: true,
        clock,
        jobClock: new JobClock(clock),
        log: silentLog(),
        schedule: (run) => void setImmediate(run),
        harness: () => Promise.resolve(connection),
        descriptorId: () => descriptor.id,
        truncateDescriptorId: () => "",
        windowMerger: () => undefined,
        relief: () => undefined,
        snapshot: async (checkpointId, { inFlight }) => {
          const frozen = rows.copy();
          taken.set(checkpointId, { rows: frozen, inFlight: tablesOf((await inFlight) ?? []) });
          return [];
        },
        onSnapshot: (checkpointId, _files, report, failure) => {
          this.#failure ??= failure;
          const found = taken.get(checkpointId);
          if (found !== undefined) this.#snapshots.set(checkpointId, { ...found, report });
        },
        onFinished: () => undefined,
        onFailed: (failure) => (this.#failure ??= failure),
        setProcessingTime: () => undefined,
      },
      {
        executionAttempt: of.executionAttempt,
        vertex,
        subtaskIndex: 0,
        parallelism: 1,
        inputs: [...this.#inputs].map(([datasetId, queue]) => ({ datasetId, queue })),
        outputs: Object.values(graph.datasets)
          .filter(({ producer }) => producer === vertex.id)
          .flatMap(({ id: datasetId }) =>
            graph.vertices
              .filter((consumer) => consumer.inputs.includes(datasetId))
              .map((consumer) => ({ datasetId, consumerVertexId: consumer.id, consumerParallelism: 1 })),
          ),
      },
    );
    this.#task.start();
  }

  put(to: "main" | "side", value: unknown, timestamp: number, window: Window): void {
    const element: WindowedValue = {
      value,
      timestamp: timestamp as Timestamp,
      windows: [window],
      pane: Uint8Array.of(0x0f),
    };
    const data = encodeWith(this.#plan.source.coder, element);
    this.#input(to).push({ kind: "data", chunk: { data, elementCount: 1 } });
  }

  advance(to: "main" | "side", timestamp: number): void {
    this.#input(to).push({ kind: "watermark", timestamp: timestamp as Timestamp });
  }

  #input(which: "main" | "side"): ChannelQueue {
    return present([...this.#inputs.values()][which === "main" ? 0 : 1], `an input channel of ${which} input`);
  }

  /** On all input channels. */
  barrier(barrier: Barrier): void {
    for (const queue of this.#inputs.values()) queue.push({ kind: "barrier", barrier });
  }

  /** Everything that came in has been taken by the task. */
  get hasReadAll(): boolean {
    return [...this.#inputs.values()].every((queue) => queue.length === 0);
  }

  /** What is not sent of its output, oldest first. */
  get unsent(): readonly ChannelItem[] {
    return this.#outputs.flatMap((queue) => queue.items());
  }

  /** All that is not sent is taken. */
  send(): void {
    for (const queue of this.#outputs) while (queue.length > 0) queue.shift();
  }

  valuesOf(items: readonly (ChannelItem | InFlightItem)[]): unknown[] {
    const { coder } = present(this.#plan.sinks[0], "a sink");
    return items.flatMap((item) =>
      item.kind === "data"
        ? decodeAll(coder, passingData(item.chunk)).map((element) => (element as WindowedValue).value)
        : [],
    );
  }

  snapshotOf(checkpointId: number): TakenSnapshot | undefined {
    return this.#snapshots.get(checkpointId);
  }

  /** @throws what the task failed of, or when it never happens */
  async until(what: string, isSo: () => boolean): Promise<void> {
    for (let turn = 0; turn < 10_000 && !isSo(); turn++) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (this.#failure !== undefined) throw this.#failure as Error;
    }
    if (!isSo()) throw new Error(`${what}: it never happened`);
  }

  close(): void {
    this.#task.close();
  }
}

function vertexOf({ vertices }: ExecutionGraph, transformId: string): VertexSpec {
  const found = vertices.find(({ stage }) => stage?.transforms.some(({ id }) => id === transformId) === true);
  return present(found, `a vertex that runs ${transformId}`);
}

function tablesOf(rows: Iterable<InFlightRow>): Tables {
  const tables = new Map<string, Map<string, Uint8Array>>();
  for (const { table, key, value } of rows) tables.set(table, (tables.get(table) ?? new Map()).set(key, value));
  return tables;
}
