/**
 * The head of a streaming GroupByKey: feeds the windowed grouping, passes on the panes that fire, and then the
 * watermark as far as the grouping lets it go.
 *
 * Invariant: what is given to it is handled in order, also where merging windows has to ask a harness; until that is
 * done it is not idle, and nothing more is given to it.
 */
import type { Chunk } from "../../base/chunk.ts";
import type { HeadSpec } from "../../graph/execution-graph.ts";
import type { Timestamp } from "../../time/timestamp.ts";
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
  #isBusy = false;
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
    this.#armWake();
  }

  get idle(): boolean {
    return !this.#isBusy;
  }

  get hold(): Timestamp {
    return this.#grouping.hold;
  }

  add(chunk: Chunk): void {
    this.#run(() => this.#grouping.add(chunk, this.#time));
  }

  advance(watermark: Timestamp): void {
    this.#watermark = watermark;
    this.#run(() => this.#grouping.advance(this.#time));
  }

  get #time() {
    return { inputWatermark: this.#watermark, processingTimeMs: this.#environment.jobClock.nowMs() };
  }

  /** Makes its rows true, before they are frozen. */
  flush(): void {
    this.#grouping.flush();
  }

  #run(step: () => Promise<void> | void): void {
    const wait = step();
    if (wait === undefined) {
      this.#afterStep();
      return;
    }
    this.#isBusy = true;
    wait
      .then(() => {
        this.#isBusy = false;
        this.#afterStep();
      })
      .catch((failure: unknown) => this.#init.onFailure(failure))
      .finally(() => this.#init.wake());
  }

  #afterStep(): void {
    for (const chunk of this.#grouping.takeOutput()) this.#init.data(chunk);
    this.#tellDropped();
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
      if (this.#isBusy) this.#armWake();
      else this.advance(this.#watermark);
    });
  }

  close(): void {
    this.#forgetWake?.();
  }
}
