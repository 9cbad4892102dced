/**
 * A streaming task's output edges: routes what sinks (or the head) emit to the channels of the consuming subtasks,
 * publishes a bundle's output in one step, and sends watermarks and barriers down every channel.
 *
 * Invariant: what a bundle emitted is pushed to the channels at its commit or never.
 */
import { present } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import type { ExecutionGraph, VertexSpec } from "../../graph/execution-graph.ts";
import { MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { PartitionRouter } from "../task/partition-router.ts";
import type { StageOutput } from "../task/stage-executor.ts";
import { BufferDebloat } from "./buffer-debloat.ts";
import type { Barrier, ChannelQueue } from "./channel-queue.ts";
import { type HeadOutputBundle, HeldOutput, type OutputEdge } from "./held-output.ts";
import type { InFlightOfChannel } from "./in-flight/in-flight-rows.ts";
import { unknownChannel } from "./in-flight/task-in-flight.ts";
import { SpilledOutput } from "./spilled-output.ts";
import type { Channels } from "./stream-ports.ts";

/** Below it a file is not worth its while. */
const MIN_HELD_BYTES = 1024 * 1024;

export interface StreamOutputsInit {
  readonly jobId: string;
  readonly region: number;
  readonly executionAttempt: number;
  readonly graph: ExecutionGraph;
  readonly vertex: VertexSpec;
  readonly subtaskIndex: number;
  readonly maxParallelism: number;
  readonly edges: readonly {
    readonly datasetId: string;
    readonly consumerVertexId: string;
    readonly consumerParallelism: number;
  }[];
  readonly channels: Channels;
  readonly capacityBytes: number;
  readonly clock: Clock;
  /** For output of a bundle that the task may not hold in memory. Undefined: it holds all of it. */
  readonly spillDirectory: string | undefined;
}

interface Edge extends OutputEdge {
  readonly consumerVertexId: string;
  watermark: Timestamp;
}

export class StreamOutputs implements StageOutput {
  readonly #edges: readonly Edge[];
  readonly #bySink = new Map<string, readonly Edge[]>();
  readonly #head: readonly Edge[];
  readonly #spillDirectory: string | undefined;
  /** What a bundle's output may take of memory: as much as the channels. */
  readonly #heldBytes: number;
  readonly #spilled = new Set<SpilledOutput>();

  constructor(init: StreamOutputsInit, onRoom: () => void) {
    const { graph, vertex, subtaskIndex, channels } = init;
    this.#edges = init.edges.map((edge) => {
      const dataset = present(graph.datasets[edge.datasetId as never], `dataset ${edge.datasetId}`);
      const consumers =
        dataset.partitioner === "forward"
          ? [subtaskIndex]
          : Array.from({ length: edge.consumerParallelism }, (_, index) => index);
      const queues = consumers.map((consumerSubtask) => {
        const queue = channels.openOutput(
          {
            jobId: init.jobId,
            region: init.region,
            executionAttempt: init.executionAttempt,
            datasetId: edge.datasetId,
            producerSubtask: subtaskIndex,
            consumerVertexId: edge.consumerVertexId,
            consumerSubtask,
          },
          init.capacityBytes,
        );
        queue.onRoom = onRoom;
        queue.debloat = new BufferDebloat(init.capacityBytes, init.clock);
        return queue;
      });
      const broadcast = dataset.partitioner === "broadcast";
      return {
        datasetId: edge.datasetId,
        consumerVertexId: edge.consumerVertexId,
        router: new PartitionRouter(graph.coders, dataset, broadcast ? 1 : queues.length, init.maxParallelism),
        queues,
        broadcast,
        watermark: MIN_TIMESTAMP,
      };
    });
    const of = (datasetIds: readonly string[]) => this.#edges.filter((edge) => datasetIds.includes(edge.datasetId));
    for (const sink of vertex.stage?.sinks ?? []) this.#bySink.set(sink.transformId, of(sink.datasets));
    this.#head = of(vertex.headOutputs);
    this.#spillDirectory = init.spillDirectory;
    const channelCount = this.#edges.reduce((sum, { queues }) => sum + queues.length, 0);
    this.#heldBytes = Math.max(MIN_HELD_BYTES, channelCount * init.capacityBytes);
  }

  /** True while a channel holds as much as it should: no bundle is started. */
  get isFull(): boolean {
    return this.#edges.some((edge) => edge.queues.some((queue) => queue.isFull));
  }

  /** Vertices to which a channel is full. */
  get fullTo(): string[] {
    const full = this.#edges.filter((edge) => edge.queues.some((queue) => queue.isFull));
    return [...new Set(full.map((edge) => edge.consumerVertexId))];
  }

  get sentItems(): number {
    return this.#edges.reduce(
      (sum, edge) => sum + edge.queues.reduce((count, queue) => count + queue.pushedCount, 0),
      0,
    );
  }

  begin(): HeadOutputBundle {
    return new HeldOutput({
      bySink: this.#bySink,
      head: this.#head,
      memoryBytes: this.#heldBytes,
      spill: this.#spillDirectory === undefined ? undefined : () => this.#newSpill(this.#spillDirectory as string),
    });
  }

  #newSpill(directory: string): SpilledOutput {
    const spilled: SpilledOutput = new SpilledOutput(directory, () => this.#spilled.delete(spilled));
    this.#spilled.add(spilled);
    return spilled;
  }

  /** Sends a watermark that is later than the last one down every channel, or those of some datasets. */
  emitWatermark(timestamp: Timestamp, datasetIds?: ReadonlySet<string>): void {
    for (const edge of this.#edges) {
      if (timestamp <= edge.watermark || datasetIds?.has(edge.datasetId) === false) continue;
      edge.watermark = timestamp;
      for (const queue of edge.queues) queue.push({ kind: "watermark", timestamp });
    }
  }

  emitBarrier(barrier: Barrier): void {
    for (const edge of this.#edges) for (const queue of edge.queues) queue.push({ kind: "barrier", barrier });
  }

  /** The barrier waits to be sent to another worker. */
  holdsBarrier(checkpointId: number): boolean {
    return this.#edges.some(({ queues }) => queues.some((queue) => !queue.hasConsumer && queue.holds(checkpointId)));
  }

  /**
   * Sends a barrier down every channel before all that is not sent; where it was sent already, not again.
   * @returns what it has overtaken
   */
  overtake(barrier: Barrier, isSent = false): InFlightOfChannel[] {
    return this.#edges.flatMap(({ queues }) =>
      queues.flatMap((queue) => {
        if (isSent && !queue.holds(barrier.checkpointId)) return [];
        const { datasetId, consumerVertexId, consumerSubtask: otherSubtask } = queue.id;
        return queue.overtake(barrier).map((entry) => ({ datasetId, consumerVertexId, otherSubtask, entry }));
      }),
    );
  }

  /** Sends what had not been sent at a snapshot, before anything else. @throws WeirError for a channel there is not */
  restore(output: readonly InFlightOfChannel[]): void {
    const byName = new Map<string, ChannelQueue>();
    const nameOf = (datasetId: string, vertexId: string, subtask: number) => `${datasetId}\n${vertexId}\n${subtask}`;
    for (const { queues } of this.#edges)
      for (const queue of queues)
        byName.set(nameOf(queue.id.datasetId, queue.id.consumerVertexId, queue.id.consumerSubtask), queue);
    for (const { datasetId, consumerVertexId, otherSubtask, entry } of output) {
      const queue = byName.get(nameOf(datasetId, consumerVertexId, otherSubtask));
      if (queue === undefined) throw unknownChannel(`to subtask ${otherSubtask} of ${consumerVertexId}`);
      if (entry.kind !== "read") queue.push(entry);
    }
  }

  /** With the channels: what lies on disk and was not taken out is gone. Idempotent. */
  close(): void {
    for (const spilled of this.#spilled) spilled.close();
  }
}
