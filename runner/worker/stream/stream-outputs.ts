/**
 * A streaming task's output edges: routes what sinks (or the head) emit to the channels of the consuming subtasks,
 * publishes a bundle's output in one step, and sends watermarks and barriers down every channel.
 *
 * Invariant: what a bundle emitted is pushed to the channels at its commit or never.
 */
import { present } from "../../base/assert.ts";
import type { Chunk } from "../../base/chunk.ts";
import type { ExecutionGraph, VertexSpec } from "../../graph/execution-graph.ts";
import { MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { PartitionRouter } from "../task/partition-router.ts";
import type { StageOutput, StageOutputBundle } from "../task/stage-executor.ts";
import type { Barrier, ChannelQueue } from "./channel-queue.ts";
import type { Channels } from "./stream-ports.ts";

export interface StreamOutputsInit {
  readonly jobId: string;
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
}

interface Edge {
  readonly datasetId: string;
  readonly consumerVertexId: string;
  /** Undefined where every queue gets everything. */
  readonly router: PartitionRouter;
  readonly queues: readonly ChannelQueue[];
  readonly broadcast: boolean;
  watermark: Timestamp;
}

export interface HeadOutputBundle extends StageOutputBundle {
  /** Elements of the head for one of its datasets, or for all of them. */
  acceptHead(chunk: Chunk, datasetIds?: ReadonlySet<string>): Promise<void> | void;
}

export class StreamOutputs implements StageOutput {
  readonly #edges: readonly Edge[];
  readonly #bySink = new Map<string, readonly Edge[]>();
  readonly #head: readonly Edge[];

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
            executionAttempt: init.executionAttempt,
            datasetId: edge.datasetId,
            producerSubtask: subtaskIndex,
            consumerVertexId: edge.consumerVertexId,
            consumerSubtask,
          },
          init.capacityBytes,
        );
        queue.onRoom = onRoom;
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
    let held: { readonly queue: ChannelQueue; readonly chunk: Chunk }[] = [];
    const route = (edges: readonly Edge[], chunk: Chunk): Promise<void> | void => {
      for (const edge of edges) {
        // Nothing here waits: emit only collects.
        void edge.router.route(chunk, (partition, part) => {
          if (edge.broadcast) for (const queue of edge.queues) held.push({ queue, chunk: part });
          else held.push({ queue: present(edge.queues[partition], "the partition's channel"), chunk: part });
        });
      }
    };
    return {
      accept: (sinkTransformId, data) => route(this.#bySink.get(sinkTransformId) ?? [], { data, elementCount: -1 }),
      acceptHead: (chunk, datasetIds) =>
        route(
          datasetIds === undefined ? this.#head : this.#head.filter((edge) => datasetIds.has(edge.datasetId)),
          chunk,
        ),
      commit: () => {
        for (const { queue, chunk } of held) queue.push({ kind: "data", chunk });
        held = [];
      },
      abort: () => {
        held = [];
      },
    };
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
}
