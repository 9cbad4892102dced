/**
 * What the parts of a streaming task are to each other, so that each can be built and tested alone: timers, user
 * state, side inputs, the windowed grouping of a GroupByKey, and the channels to other subtasks.
 *
 * Every part follows the bundle: what happens in a bundle is held in a bundle object and becomes visible by its
 * synchronous `commit`, or never. Durable things are rows (`state-rows.ts`).
 */
import type { ProcessBundleRequest_CacheToken, StateRequest } from "../../../proto/gen/beam_fn_api.ts";
import type { Chunk } from "../../base/chunk.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import type { StateReply } from "../task/harness-connection.ts";
import type { ChannelId, ChannelQueue, InFlightItem } from "./channel-queue.ts";
import type { TimerHold } from "./watermark-hold.ts";

/** A part of a running bundle. Exactly one of the two is called, once. */
export interface BundlePart {
  commit(): void;
  abort(): void;
}

/** Where a task stands in time. */
export interface TaskTime {
  /** Of the task's main input, all elements before it committed. */
  readonly inputWatermark: Timestamp;
  /** Milliseconds since 1970, from the job's clock (a TestStream's clock where there is one). */
  readonly processingTimeMs: number;
}

// --- user state -----------------------------------------------------------------------------------------------

export interface UserStateBundle extends BundlePart {
  /** bag, multimap, multimap keys, ordered list: get, append, clear. @throws WeirError naming an unknown state id. */
  answer(request: StateRequest): Promise<StateReply> | StateReply;
  /** What it has written so far, what it has written over included. */
  readonly writtenBytes: number;
}

export interface UserState {
  beginBundle(): UserStateBundle;
  /** For ProcessBundleRequest. They change whenever the SDK's cache may hold what was never committed. */
  cacheTokens(): ProcessBundleRequest_CacheToken[];
  /** The next bundle runs on another harness: what the last one has cached is of no use. */
  harnessChanged?(): void;
  /** Drops the state of windows whose end plus allowed lateness the watermark has passed. */
  expireWindows(inputWatermark: Timestamp): void;
}

// --- timers ---------------------------------------------------------------------------------------------------

/** Encoded timers of one family, in firing order. */
export interface TimerBatch {
  readonly transformId: string;
  readonly timerFamilyId: string;
  /** Encoded timers (beam:coder:timer:v1) as the Fn API wants them. */
  readonly timers: Uint8Array;
}

/** Timers that were taken to be fired: the retained input of one bundle. */
export interface FiringTimers {
  readonly batches: readonly TimerBatch[];
  readonly count: number;
  /** In the bundle's commit, before its new timers: they are fired and gone. */
  commit(): void;
  /** They will be taken again. */
  release(): void;
}

export interface TimersBundle extends BundlePart {
  /** Encoded timers that the SDK has set or cleared, as they came on the Data stream. */
  accept(transformId: string, timerFamilyId: string, timers: Uint8Array): void;
}

export interface Timers {
  beginBundle(): TimersBundle;
  /** Main input that a bundle will process, for windows that need an expiration timer. */
  noteInput(chunk: Chunk): void;
  /**
   * Event-time timers at or before the input watermark and processing-time timers that are due; of each key only the
   * earliest, since it may set or clear those after it. Undefined when there is none.
   */
  takeEligible(time: TaskTime, maxCount: number): FiringTimers | undefined;
  /** The least output timestamp of any timer that is set or being fired; MAX_TIMESTAMP when there is none. */
  readonly hold: Timestamp;
  /** When the next processing-time timer is due; undefined when none is set. */
  readonly nextProcessingTimeMs: number | undefined;
  /** Drops timers of windows whose end plus allowed lateness the watermark has passed. */
  expireWindows?(inputWatermark: Timestamp): void;
  /** Timers that are set. */
  readonly count: number;
  /** For people: by family, those that hold the watermark furthest back. Looks at every timer. */
  describeHolds?(): TimerHold[];
}

// --- the grouping of a GroupByKey -------------------------------------------------------------------------------

/** Groups elements by key and window and fires panes by the windowing strategy's trigger. */
export interface WindowedGrouping {
  /** Whole encoded windowed_value<kv<K, V>> elements. */
  add(chunk: Chunk, time: TaskTime): Promise<void> | void;
  /**
   * The input watermark or processing time has moved: fires what is due, drops expired windows, so far as its output
   * stays small.
   * @returns true when more is due: it is to be called again, and nothing else but `flush` before. Time stands till then
   */
  advance(time: TaskTime): boolean;
  /** Makes its rows true: right before they are frozen, and not while `add` is under way. */
  flush(): void;
  /** Panes fired since the last call, encoded windowed_value<kv<K, iterable<V>>>, chunked; empty when none. */
  takeOutput(): Chunk[];
  /** The output watermark must not pass it; MAX_TIMESTAMP when nothing is held. Panes taken hold nothing any more. */
  readonly hold: Timestamp;
  /** When `advance` has something to do by processing time; undefined when nothing waits for it. */
  readonly nextProcessingTimeMs: number | undefined;
  /** Elements dropped because their window had expired. */
  readonly droppedLateCount: number;
  /** Elements dropped because their window's trigger had finished. */
  readonly droppedClosedCount: number;
}

// --- side inputs ------------------------------------------------------------------------------------------------

/** Content of a side input's dataset, or how far its watermark is. */
export interface SideInputArrival {
  readonly datasetId: string;
  readonly entry: InFlightItem;
}

export interface StreamSideInputs {
  /** What waits for the end of a bundle, oldest first: it is not among the rows. */
  readonly arrived: readonly SideInputArrival[];
  /** More should not come before the bundle has ended. */
  readonly isFull?: boolean;
  /** Encoded elements of one of the side inputs' datasets, from any producer subtask. */
  add(datasetId: string, chunk: Chunk): void;
  /** The minimum over the dataset's producer subtasks has moved. */
  advance(datasetId: string, watermark: Timestamp): void;
  /** True when every window of every side input is final: nothing needs to be looked at. */
  readonly allReady: boolean;
  /** For people: those that are not ready for every window, as "transform id, local name". */
  readonly notReady?: readonly { readonly transformId: string; readonly localName: string }[];
  /**
   * Cuts main input into what can run now and what has to wait for a side input's window, element order kept within
   * each. An element in several windows is exploded where only some are ready.
   */
  divide(chunk: Chunk): { readonly ready: Chunk | undefined; readonly waiting: Chunk | undefined };
  answer(request: StateRequest): Promise<StateReply> | StateReply;
  cacheTokens(): ProcessBundleRequest_CacheToken[];
  /**
   * For a bundle with all its attempts: until the returned function is called nothing that it reads changes; what
   * arrives meanwhile is put in then.
   */
  freeze(): () => void;
  /** Drops windows that main input can no longer reach. @param mainInputWatermark not past input that waits. */
  expire(mainInputWatermark: Timestamp): void;
}

// --- channels ---------------------------------------------------------------------------------------------------

/** The channels of a worker's streaming tasks. */
export interface Channels {
  /** The producer's end. Opened before or after the consumer's. */
  openOutput(id: ChannelId, capacityBytes: number): ChannelQueue;
  /**
   * The consumer's end.
   * @param producer the worker that has the other end; this worker's own id gives the same queue
   * @param onLost called once when the producer cannot be reached any more, or refuses the attempt
   */
  openInput(
    id: ChannelId,
    capacityBytes: number,
    producer: { readonly workerId: string; readonly exchangeAddress: string },
    onLost: (failure: Error) => void,
  ): ChannelQueue;
  /** Ends all channels of older execution attempts of a job's region, or of all attempts. Idempotent. */
  closeRegion(jobId: string, region: number, keepAttempt?: number): void;
}
