/**
 * The head of a streaming GroupByKey: feeds the windowed grouping, passes on the panes that fire, and then the
 * watermark as far as the grouping lets it go.
 *
 * Invariants: what is given to it is handled in order, also where merging windows has to ask a harness, or where more
 * panes are due than the task has room for; until that is done it is not idle, and nothing more is given to it. By
 * itself it gives nothing on: what processing time has made due comes by `resume`, so not behind a barrier.
 */
import type { Chunk } from "../../base/chunk.ts";
import type { HeadSpec } from "../../graph/execution-graph.ts";
import { MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { createGrouping } from "./create-parts.ts";
import { DROPPED_DUE_TO_CLOSED_WINDOW, DROPPED_DUE_TO_LATENESS, type DroppedCounter } from "./dropped-input.ts";
import type { StreamTaskDeployed, StreamTaskEnvironment } from "./stream-task-environment.ts";
import type { WindowedGrouping } from "./stream-ports.ts";

export interface GroupingHeadInit {
  /** Where a restored task goes on. */
  readonly watermark: Timestamp;
  readonly data: (chunk: Chunk) => void;
  readonly mark: (timestamp: Timestamp) => void;
  /** So many more elements were dropped. */
  readonly onDropped: (counter: DroppedCounter, count: number) => void;
  readonly wake: () => void;
  readonly onFailure: (failure: unknown) => void;
  readonly signal: AbortSignal;
}

export class GroupingHead {
  readonly #grouping: WindowedGrouping;
  readonly #init: GroupingHeadInit;
  readonly #environment: StreamTaskEnvironment;
  #watermark: Timestamp;
  #marked: Timestamp | undefined;
  #lateCount = 0;
  #closedCount = 0;
  #isMerging = false;
  /** Panes are due that have not been fired, of the step that is under way. */
  #hasMore = false;
  /** A step of its own is to be made. */
  #isDue: boolean;
  #forgetWake: (() => void) | undefined;
  #wakeMs: number | undefined;

  constructor(
    environment: StreamTaskEnvironment,
    task: StreamTaskDeployed,
    head: Extract<HeadSpec, { kind: "group-by-key" }>,
    init: GroupingHeadInit,
  ) {
    this.#environment = environment;
    this.#init = init;
    this.#watermark = init.watermark;
    this.#grouping = createGrouping(environment, task, head, init.signal);
    // What was due when the snapshot was taken that it is restored from.
    this.#isDue = init.watermark > MIN_TIMESTAMP;
    this.#armWake();
  }

  get idle(): boolean {
    return !this.#isMerging && !this.#hasMore && !this.#isDue;
  }

  /** An element is half handled: its window's harness has been asked. */
  get isMerging(): boolean {
    return this.#isMerging;
  }

  get hold(): Timestamp {
    return this.#grouping.hold;
  }

  add(chunk: Chunk): void {
    const wait = this.#grouping.add(chunk, this.#time);
    if (wait === undefined) {
      this.#afterStep();
      return;
    }
    this.#isMerging = true;
    wait
      .then(() => {
        this.#isMerging = false;
        this.#afterStep();
      })
      .catch((failure: unknown) => this.#init.onFailure(failure))
      .finally(() => this.#init.wake());
  }

  advance(watermark: Timestamp): void {
    this.#watermark = watermark;
    this.#fire();
  }

  /** Goes on with what is due, when the task has room for it. @returns whether there was anything to do */
  resume(): boolean {
    if (this.#isMerging || this.idle) return false;
    this.#fire();
    return true;
  }

  #fire(): void {
    if (!this.#hasMore) this.#isDue = false;
    this.#hasMore = this.#grouping.advance(this.#time);
    this.#afterStep();
  }

  get #time() {
    return { inputWatermark: this.#watermark, processingTimeMs: this.#environment.jobClock.nowMs() };
  }

  /** Makes its rows true, before they are frozen. */
  flush(): void {
    this.#grouping.flush();
  }

  #afterStep(): void {
    for (const chunk of this.#grouping.takeOutput()) this.#init.data(chunk);
    this.#tellDropped();
    if (this.#hasMore) return;
    const mark = Math.min(this.#watermark, this.#grouping.hold) as Timestamp;
    if (this.#marked === undefined || mark > this.#marked) {
      this.#marked = mark;
      this.#init.mark(mark);
    }
    this.#armWake();
  }

  #tellDropped(): void {
    const { droppedLateCount, droppedClosedCount } = this.#grouping;
    if (droppedLateCount > this.#lateCount)
      this.#init.onDropped(DROPPED_DUE_TO_LATENESS, droppedLateCount - this.#lateCount);
    if (droppedClosedCount > this.#closedCount)
      this.#init.onDropped(DROPPED_DUE_TO_CLOSED_WINDOW, droppedClosedCount - this.#closedCount);
    this.#lateCount = droppedLateCount;
    this.#closedCount = droppedClosedCount;
  }

  #armWake(): void {
    const dueMs = this.#grouping.nextProcessingTimeMs;
    if (dueMs === this.#wakeMs) return;
    this.#forgetWake?.();
    this.#forgetWake = undefined;
    this.#wakeMs = dueMs;
    if (dueMs === undefined) return;
    this.#forgetWake = this.#environment.jobClock.wakeAt(dueMs, () => {
      this.#wakeMs = undefined;
      this.#isDue = true;
      this.#init.wake();
    });
  }

  close(): void {
    this.#forgetWake?.();
  }
}
