/**
 * What one bundle of a streaming task has emitted and not committed: in memory as far as the task may hold it, then on
 * disk. At the commit all of it goes into the channels in one step, in the order in which it came.
 *
 * A chunk on disk counts in its channel as any other, so that no bundle is started until consumers have taken it.
 */
import { present } from "../../base/assert.ts";
import type { Chunk } from "../../base/chunk.ts";
import type { PartitionRouter } from "../task/partition-router.ts";
import type { StageOutputBundle } from "../task/stage-executor.ts";
import type { ChannelQueue } from "./channel-queue.ts";
import type { SpilledOutput } from "./spilled-output.ts";

export interface OutputEdge {
  readonly datasetId: string;
  readonly router: PartitionRouter;
  readonly queues: readonly ChannelQueue[];
  /** Every queue gets everything. */
  readonly broadcast: boolean;
}

export interface HeadOutputBundle extends StageOutputBundle {
  /** Elements of the head for one of its datasets, or for all of them. They are few, and never wait. */
  acceptHead(chunk: Chunk, datasetIds?: ReadonlySet<string>): void;
}

export interface HeldOutputInit {
  readonly bySink: ReadonlyMap<string, readonly OutputEdge[]>;
  readonly head: readonly OutputEdge[];
  /** What is kept in memory, and the chunk that goes past it. */
  readonly memoryBytes: number;
  /** A file for the rest; undefined: there is no limit. */
  readonly spill: (() => SpilledOutput) | undefined;
}

interface Held {
  readonly queues: readonly ChannelQueue[];
  chunk: Chunk;
}

export class HeldOutput implements HeadOutputBundle {
  readonly #init: HeldOutputInit;
  #held: Held[] = [];
  #bytes = 0;
  #spilled: SpilledOutput | undefined;

  constructor(init: HeldOutputInit) {
    this.#init = init;
  }

  accept(sinkTransformId: string, data: Uint8Array): Promise<void> | void {
    const first = this.#held.length;
    const isFull = this.#init.spill !== undefined && this.#bytes >= this.#init.memoryBytes;
    this.#route(this.#init.bySink.get(sinkTransformId) ?? [], { data, elementCount: -1 });
    if (isFull) return this.#spill(this.#held.slice(first));
    this.#bytes += data.byteLength;
    return undefined;
  }

  acceptHead(chunk: Chunk, datasetIds?: ReadonlySet<string>): void {
    const { head } = this.#init;
    this.#route(datasetIds === undefined ? head : head.filter((edge) => datasetIds.has(edge.datasetId)), chunk);
  }

  #route(edges: readonly OutputEdge[], chunk: Chunk): void {
    for (const { router, queues, broadcast } of edges) {
      // Nothing here waits: emit only collects.
      void router.route(chunk, (partition, part) => {
        const to = broadcast ? queues : [present(queues[partition], "the partition's channel")];
        this.#held.push({ queues: to, chunk: part });
      });
    }
  }

  async #spill(parts: readonly Held[]): Promise<void> {
    const spilled = (this.#spilled ??= present(this.#init.spill, "a place to spill to")());
    await Promise.all(
      parts.map(async (part) => {
        part.chunk = await spilled.add(part.chunk);
      }),
    );
  }

  commit(): void {
    for (const { queues, chunk } of this.#held) for (const queue of queues) queue.push({ kind: "data", chunk });
    this.#held = [];
    this.#spilled?.seal();
  }

  abort(): void {
    this.#held = [];
    this.#spilled?.close();
  }
}
