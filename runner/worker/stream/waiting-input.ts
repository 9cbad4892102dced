/**
 * What main input goes through before it is in a stage's queue, where the stage requires it: sorted by time, then
 * stable. Both keep it as rows and hold the watermark meanwhile.
 */
import type { Chunk } from "../../base/chunk.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import { MAX_TIMESTAMP, readTimestamp, type Timestamp } from "../../time/timestamp.ts";
import { leastTimestamp } from "./encoded-elements.ts";
import type { SortedInput } from "./sorted-input/sorted-input.ts";
import type { StableInput } from "./stable-input.ts";
import type { StageQueue } from "./stage-queue.ts";

export interface WaitingInputInit {
  readonly sorted: SortedInput | undefined;
  readonly stable: StableInput | undefined;
  /** Sorted input was dropped: its like had been released already. */
  readonly onDropped: (count: number) => void;
}

export class WaitingInput {
  readonly #init: WaitingInputInit;
  readonly #queue: StageQueue;
  readonly #skip: Skip;
  #droppedCount = 0;

  /** @param skip over one element */
  constructor(init: WaitingInputInit, queue: StageQueue, skip: Skip) {
    this.#init = init;
    this.#queue = queue;
    this.#skip = skip;
  }

  /** Chunks and elements that wait. */
  get count(): number {
    return (this.#init.sorted?.count ?? 0) + (this.#init.stable?.count ?? 0);
  }

  get hold(): Timestamp {
    const { sorted, stable } = this.#init;
    return Math.min(sorted?.hold ?? MAX_TIMESTAMP, stable?.hold ?? MAX_TIMESTAMP) as Timestamp;
  }

  get heldBy(): string {
    const { sorted, stable } = this.#init;
    return (stable?.hold ?? MAX_TIMESTAMP) <= (sorted?.hold ?? MAX_TIMESTAMP) ? "stable input" : "sorted input";
  }

  data(chunk: Chunk): void {
    const { sorted, stable, onDropped } = this.#init;
    if (sorted !== undefined) {
      sorted.add(chunk);
      const dropped = sorted.droppedLateCount - this.#droppedCount;
      this.#droppedCount = sorted.droppedLateCount;
      if (dropped > 0) onDropped(dropped);
    } else if (stable !== undefined) stable.add(chunk, leastTimestamp(chunk.data, this.#skip));
    else this.#queue.data(chunk);
  }

  /** Right before the mark is put into the queue. */
  watermark(timestamp: Timestamp): void {
    const { sorted, stable } = this.#init;
    if (sorted === undefined) return;
    const released = sorted.release(timestamp).map((chunk) => ({ chunk, hold: readTimestamp(chunk.data, 0) }));
    if (stable === undefined) this.#queue.append(released);
    else for (const { chunk, hold } of released) stable.add(chunk, hold);
  }

  /** Right before the rows are frozen. */
  barrier(checkpointId: number): void {
    this.#init.stable?.barrier(checkpointId);
  }

  complete(checkpointId: number): void {
    this.#init.stable?.complete(checkpointId);
  }

  /** While no bundle runs: puts what has become stable to the front of the queue, before barriers that wait. */
  release(): void {
    const { stable } = this.#init;
    if (stable !== undefined) this.#queue.release(stable.takeStable(), true);
  }
}
