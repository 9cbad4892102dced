/**
 * Groups elements by key and window and fires panes as the windowing strategy's trigger says: the semantics of
 * Beam's ReduceFnRunner, on encoded bytes.
 *
 * Triggers are asked after each element, or once for each chunk and window, after all its elements, as the reference
 * does for a bundle: the windowing says which.
 * Invariants: `outputWatermark` moves only between steps, so that what a step fires is on time as long as its hold
 * was kept; an `advance` that takes several calls is one step. The rows are true after `flush`, and only then.
 */
import type { Chunk } from "../../../base/chunk.ts";
import { WeirError } from "../../../base/errors.ts";
import { hashBytes } from "../../../coders/key-group.ts";
import { KeyedLayout, newKeyedPositions } from "../../../coders/key-slice.ts";
import type { CoderTable, WindowingSpec } from "../../../graph/execution-graph.ts";
import type { MergeWindows } from "../../../state/grouping/merge-windows-of-key.ts";
import type { StateTable } from "../../../state/state-rows.ts";
import { MIN_TIMESTAMP, readTimestamp, type Timestamp } from "../../../time/timestamp.ts";
import { Trigger, type TriggerState } from "../../../triggers/trigger.ts";
import type { TaskTime, WindowedGrouping } from "../stream-ports.ts";
import { GroupStore } from "./group-store.ts";
import { PaneEncoder } from "./pane-encoder.ts";
import { PaneFiring } from "./pane-firing.ts";
import { WatermarkHolds } from "./watermark-holds.ts";
import type { WindowGroup } from "./window-group.ts";
import { KeyWindowMerging } from "./key-window-merging.ts";
import { windowTimesOf } from "./window-times.ts";

export interface TriggeredGroupingInit {
  readonly coders: CoderTable;
  /** windowed_value<kv<K, V>>; panes are windowed_value<kv<K, iterable<V>>> of the same K, V and window coder. */
  readonly inputCoderId: string;
  readonly windowing: WindowingSpec;
  /** Of this grouping alone. */
  readonly table: StateTable;
  readonly maxParallelism: number;
  /** About the size of the chunks of output. */
  readonly chunkBytes: number;
  /** Merges the windows of a custom merging WindowFn; sessions need none. */
  readonly mergeWindows?: MergeWindows;
}

/** Groups that one call wakes at most. */
const MAX_WOKEN = 10_000;
const SESSION_WINDOWS_URN = "beam:window_fn:session_windows:v1";

export class TriggeredGrouping implements WindowedGrouping {
  readonly #layout: KeyedLayout;
  readonly #positions = newKeyedPositions();
  readonly #trigger: Trigger;
  readonly #store: GroupStore;
  readonly #holds: WatermarkHolds;
  readonly #firing: PaneFiring;
  readonly #encoder: PaneEncoder;
  readonly #merging: KeyWindowMerging | undefined;
  readonly #asksForEach: boolean;
  readonly #touched: WindowGroup[] = [];
  // Reused: of the step that runs, and of the group that its trigger is asked about.
  readonly #watermarks: { input: Timestamp; output: Timestamp } = { input: MIN_TIMESTAMP, output: MIN_TIMESTAMP };
  readonly #context: {
    state: TriggerState;
    windowMaxTimestamp: Timestamp;
    inputWatermark: Timestamp;
    processingTimeMs: number;
  };
  /** Those that an `advance` which is under way has not come to. */
  #due: Generator<WindowGroup, undefined> | undefined;
  readonly #chunkBytes: number;
  #droppedLateCount = 0;
  #droppedClosedCount = 0;

  /** @throws WeirError for accumulation by retraction, and for coders and triggers that it cannot work with. */
  constructor(init: TriggeredGroupingInit) {
    const { windowing, coders, table, maxParallelism } = init;
    refuseUnsupported(init);
    this.#layout = new KeyedLayout(coders, init.inputCoderId);
    const { windowCoderId, windowSkip } = this.#layout.windowed;
    const windowTimes = windowTimesOf(coders, windowCoderId);
    const trigger = new Trigger(windowing.trigger, windowing.merging);
    this.#trigger = trigger;
    this.#asksForEach = windowing.asksTriggerFor === "EACH_ELEMENT";
    const { allowedLatenessMs, merging: isMerging } = windowing;
    const store = new GroupStore({
      table,
      trigger,
      windowTimes,
      windowSkip,
      allowedLatenessMs,
      maxParallelism,
      isMerging,
    });
    this.#store = store;
    this.#holds = new WatermarkHolds(windowing);
    this.#chunkBytes = init.chunkBytes;
    this.#encoder = new PaneEncoder(init.chunkBytes);
    this.#firing = new PaneFiring({
      windowing,
      trigger,
      store,
      holds: this.#holds,
      windowTimes,
      encoder: this.#encoder,
    });
    this.#context = {
      state: trigger.newState(),
      windowMaxTimestamp: MIN_TIMESTAMP,
      inputWatermark: MIN_TIMESTAMP,
      processingTimeMs: 0,
    };
    if (isMerging)
      this.#merging = new KeyWindowMerging({
        layout: this.#layout,
        trigger,
        store,
        holds: this.#holds,
        mergeWindows: init.mergeWindows,
      });
  }

  add(chunk: Chunk, time: TaskTime): Promise<void> | void {
    this.#begin(time);
    const { data } = chunk;
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    if (this.#merging === undefined) {
      this.#addAll(bytes);
      this.#endAdd();
      return;
    }
    const merging = this.#merging.add(bytes, this.#watermarks, this.#context, {
      onElement: (group, valueStart, valueEnd, timestamp) =>
        this.#addElement(group, bytes, valueStart, valueEnd, timestamp),
      onLate: () => this.#droppedLateCount++,
    });
    if (merging === undefined) this.#endAdd();
    else return merging.then(() => this.#endAdd());
  }

  advance(time: TaskTime): boolean {
    if (this.#due === undefined) {
      this.#begin(time);
      this.#due = this.#takeDue(time);
    }
    for (let count = 0; count < MAX_WOKEN && this.#encoder.byteLength < this.#chunkBytes; count++) {
      const { value: group, done } = this.#due.next();
      if (done === true) {
        this.#due = undefined;
        this.#end();
        return false;
      }
      this.#wake(group);
    }
    return true;
  }

  *#takeDue({ inputWatermark, processingTimeMs }: TaskTime): Generator<WindowGroup, undefined> {
    yield* this.#store.takeByEventTime(inputWatermark);
    yield* this.#store.takeByProcessingTime(processingTimeMs);
    return undefined;
  }

  takeOutput(): Chunk[] {
    return this.#encoder.take();
  }

  /** Makes the rows true: before they are frozen for a snapshot. */
  flush(): void {
    this.#store.flush();
  }

  get hold(): Timestamp {
    return this.#store.hold;
  }

  get nextProcessingTimeMs(): number | undefined {
    return this.#store.nextProcessingTimeMs;
  }

  get droppedLateCount(): number {
    return this.#droppedLateCount;
  }

  /** Elements dropped because their window's trigger had finished, or never fired and had not to be closed. */
  get droppedClosedCount(): number {
    return this.#droppedClosedCount;
  }

  /** Windows of keys that it knows of. */
  get size(): number {
    return this.#store.size;
  }

  #begin({ inputWatermark, processingTimeMs }: TaskTime): void {
    this.#watermarks.input = inputWatermark;
    this.#watermarks.output = this.#store.outputWatermark;
    this.#context.inputWatermark = inputWatermark;
    this.#context.processingTimeMs = processingTimeMs;
  }

  #end(): void {
    this.#store.outputWatermark = Math.max(
      this.#store.outputWatermark,
      Math.min(this.#watermarks.input, this.#store.hold),
    ) as Timestamp;
  }

  #addAll(bytes: Buffer): void {
    const positions = this.#positions;
    const { header } = positions;
    const layout = this.#layout;
    const { windowSkip } = layout.windowed;
    const store = this.#store;
    const inputWatermark = this.#watermarks.input;
    for (let at = 0; at < bytes.length;) {
      const end = layout.read(bytes, at, positions);
      const { keyEnd } = positions;
      const { valueStart: keyStart } = header;
      const timestamp = readTimestamp(bytes, at);
      const keyHash = hashBytes(bytes, keyStart, keyEnd);
      // An element in several windows is as many elements in one window each.
      let windowStart = header.windowsStart;
      for (let left = header.windowCount; left > 0; left--) {
        const windowEnd = left === 1 ? header.windowsEnd : windowSkip(bytes, windowStart);
        const hash = hashBytes(bytes, windowStart, windowEnd, keyHash);
        let group = store.find(hash, bytes, windowStart, windowEnd, keyStart, keyEnd);
        if (group === undefined) {
          group = store.create(hash, bytes, windowStart, windowEnd, keyStart, keyEnd, inputWatermark);
          if (group !== undefined) store.scheduleEventTime(group, inputWatermark);
        }
        if (group === undefined) this.#droppedLateCount++;
        else this.#addElement(group, bytes, keyEnd, end, timestamp);
        windowStart = windowEnd;
      }
      at = end;
    }
  }

  #addElement(group: WindowGroup, bytes: Buffer, valueStart: number, valueEnd: number, timestamp: Timestamp): void {
    if (group.isClosed) {
      this.#droppedClosedCount++;
      return;
    }
    group.hasNew = true;
    if (this.#holds.add(group, timestamp, this.#watermarks)) this.#store.updateHold(group);
    group.values.add(bytes, valueStart, valueEnd);
    if (!group.isDirty) this.#store.markDirty(group);
    if (this.#trigger.isDefault) {
      if (this.#watermarks.input <= group.maxTimestamp) return;
    } else {
      this.#trigger.onElement(this.#contextOf(group));
      if (this.#asksForEach) this.#fireIfReady(group);
    }
    if (group.isTouched) return;
    group.isTouched = true;
    this.#touched.push(group);
  }

  #endAdd(): void {
    for (const group of this.#touched) {
      group.isTouched = false;
      // Merged into another by a later element of the chunk, or with all its elements dropped.
      if (group.isRemoved) continue;
      this.#fireIfReady(group);
      this.#store.scheduleProcessingTime(group, this.#context.processingTimeMs);
    }
    this.#touched.length = 0;
    this.#end();
  }

  /** A time that the group waited for has come. */
  #wake(group: WindowGroup): void {
    const { input } = this.#watermarks;
    const store = this.#store;
    if (group.garbageTime < input) {
      this.#droppedClosedCount += this.#firing.expire(group, this.#watermarks);
      store.remove(group);
      return;
    }
    this.#fireIfReady(group);
    store.scheduleEventTime(group, input);
    store.scheduleProcessingTime(group, this.#context.processingTimeMs);
  }

  #fireIfReady(group: WindowGroup): void {
    if (group.isClosed) return;
    const context = this.#contextOf(group);
    if (this.#trigger.shouldFire(context)) this.#firing.fire(group, context, this.#watermarks);
  }

  #contextOf(group: WindowGroup) {
    const context = this.#context;
    context.state = group.trigger;
    context.windowMaxTimestamp = group.maxTimestamp;
    return context;
  }
}

function refuseUnsupported({ windowing, mergeWindows }: TriggeredGroupingInit): void {
  if (windowing.accumulationMode === "RETRACTING")
    throw new WeirError({
      code: "UNIMPLEMENTED",
      domain: "user",
      message: "A GroupByKey accumulates and retracts panes, which no Beam SDK can express in its outputs yet.",
      hint: "Use the accumulation mode DISCARDING or ACCUMULATING.",
    });
  if (windowing.merging && mergeWindows === undefined && windowing.windowFnUrn !== SESSION_WINDOWS_URN)
    throw new WeirError({
      code: "UNIMPLEMENTED",
      domain: "internal",
      message: `Windows of the merging WindowFn ${windowing.windowFnUrn} are grouped, but nothing was given that merges them.`,
    });
}
