/**
 * Which window of a side input an element of the main input reads: global, fixed and sliding windows are found here,
 * as all SDKs do, from the main window's maximum timestamp; for a custom WindowFn the SDK harness is asked, once for
 * each main window.
 *
 * Source: WindowFn.getDefaultWindowMappingFn of the Java SDK, sideinputs.default_window_mapping_fn of the Python SDK:
 * of several windows (sliding) it is the earliest.
 */
import { FixedWindowsPayload, SlidingWindowsPayload } from "../../../../proto/gen/standard_window_fns.ts";
import { present } from "../../../base/assert.ts";
import { encodeIntervalWindow } from "../../../coders/interval-window.ts";
import type { ExecutionGraph, SideInputSpec, WindowingSpec } from "../../../graph/execution-graph.ts";
import { FIXED_WINDOWS_URN, GLOBAL_WINDOWS_URN, SLIDING_WINDOWS_URN } from "../../../graph/urns.ts";
import { END_OF_GLOBAL_WINDOW, MAX_TIMESTAMP, readExactMs, type Timestamp } from "../../../time/timestamp.ts";

/**
 * Runs the side input's WindowMappingFn (beam:transform:map_windows:v1) in the harness.
 * @param windows of the main input, encoded
 * @returns for each the window of the side input, encoded
 */
export type MapWindows = (sideInput: SideInputSpec, windows: readonly Uint8Array[]) => Promise<readonly Uint8Array[]>;

/** A window of the side input. */
export interface MappedWindow {
  /** Encoded, as a binary string; undefined where the runner cannot know it. */
  readonly window: string | undefined;
  /** MAX_TIMESTAMP where the runner cannot know it: nothing less than the end of the side input will do. */
  readonly maxTimestamp: Timestamp;
}

/** Main windows remembered; they are few at a time, and what was forgotten is found again. */
const MAX_REMEMBERED = 10_000;

const END_OF_GLOBAL_MS = 9223371950454775n;

export class WindowMapping {
  /** True when every element reads the same window. */
  readonly isGlobal: boolean;
  /** True when a main window is never mapped to a side window that ends before it: needed to tell what expires. */
  readonly isByEnd: boolean;
  /** Of an encoded window of the side input. */
  readonly maxTimestampOf: (window: Uint8Array) => Timestamp;
  readonly #remembered = new Map<string, MappedWindow>();
  readonly #asked = new Set<string>();
  readonly #find: (mainWindow: Uint8Array) => MappedWindow | undefined;

  /**
   * @param mapWindows absent: a custom WindowFn is only mapped where main and side input have the same windowing
   * @param onMapped a window that was not known is now; or the harness could not tell it
   */
  constructor(
    graph: ExecutionGraph,
    sideInput: SideInputSpec,
    mapWindows: MapWindows | undefined,
    onMapped: (failure?: unknown) => void,
  ) {
    const side = present(graph.windowings[sideInput.windowingId], "a side input's windowing");
    const main = present(graph.windowings[sideInput.mainWindowingId], "a main input's windowing");
    const maxMsOfSide = maxMsOf(graph, side);
    const maxMsOfMain = maxMsOf(graph, main);
    this.maxTimestampOf = (window) => Number(maxMsOfSide(window)) as Timestamp;
    this.isGlobal = side.windowFnUrn === GLOBAL_WINDOWS_URN;
    const assign = this.isGlobal ? undefined : assignerOf(side);
    const isSame = sideInput.windowingId === sideInput.mainWindowingId;
    this.isByEnd = this.isGlobal || assign !== undefined || (mapWindows === undefined && isSame);
    if (this.isGlobal) {
      const global: MappedWindow = { window: "", maxTimestamp: END_OF_GLOBAL_WINDOW };
      this.#find = () => global;
    } else if (assign !== undefined) {
      this.#find = (mainWindow) => this.#known(assign(maxMsOfMain(mainWindow)));
    } else if (mapWindows !== undefined && sideInput.windowMapping !== undefined) {
      this.#find = (mainWindow) => {
        void this.#ask(mainWindow, () => mapWindows(sideInput, [mainWindow]), onMapped);
        return undefined;
      };
    } else if (isSame) {
      this.#find = (mainWindow) => this.#known(mainWindow);
    } else {
      this.#find = () => ({ window: undefined, maxTimestamp: MAX_TIMESTAMP });
    }
  }

  /** @param mainWindow encoded, as a binary string. Undefined when the harness was asked and has not answered yet. */
  of(mainWindow: string): MappedWindow | undefined {
    const remembered = this.#remembered.get(mainWindow);
    if (remembered !== undefined) return remembered;
    const found = this.#find(Buffer.from(mainWindow, "latin1"));
    if (found !== undefined) this.#remember(mainWindow, found);
    return found;
  }

  #known(window: Uint8Array): MappedWindow {
    return { window: Buffer.from(window).toString("latin1"), maxTimestamp: this.maxTimestampOf(window) };
  }

  async #ask(
    mainWindow: Uint8Array,
    map: () => Promise<readonly Uint8Array[]>,
    onMapped: (failure?: unknown) => void,
  ): Promise<void> {
    const name = Buffer.from(mainWindow).toString("latin1");
    if (this.#asked.has(name)) return;
    this.#asked.add(name);
    try {
      const [window] = await map();
      this.#remember(name, this.#known(present(window, "a mapped window")));
      onMapped();
    } catch (failure) {
      onMapped(failure);
    } finally {
      this.#asked.delete(name);
    }
  }

  #remember(mainWindow: string, mapped: MappedWindow): void {
    if (this.#remembered.size >= MAX_REMEMBERED) this.#remembered.clear();
    this.#remembered.set(mainWindow, mapped);
  }
}

/** The maximum timestamp of an encoded window, exact. */
function maxMsOf(graph: ExecutionGraph, windowing: WindowingSpec): (window: Uint8Array) => bigint {
  const urn = present(graph.coders[windowing.windowCoderId], "a window coder").urn;
  if (urn === "beam:coder:global_window:v1") return () => END_OF_GLOBAL_MS;
  if (urn === "beam:coder:interval_window:v1") return (window) => readExactMs(window, 0) - 1n;
  // custom_window: the maximum timestamp, then the window.
  return (window) => readExactMs(window, 0);
}

/** Undefined for a WindowFn that only its SDK can run. */
function assignerOf(side: WindowingSpec): ((ms: bigint) => Uint8Array) | undefined {
  if (side.windowFnUrn === FIXED_WINDOWS_URN) {
    const payload = FixedWindowsPayload.decode(side.windowFnPayload);
    const size = millisOf(payload.size);
    const offset = millisOf(payload.offset);
    return (ms) => {
      const start = ms - modulo(ms - offset, size);
      return encodeIntervalWindow({ start, end: start + size });
    };
  }
  if (side.windowFnUrn === SLIDING_WINDOWS_URN) {
    const payload = SlidingWindowsPayload.decode(side.windowFnPayload);
    const size = millisOf(payload.size);
    const period = millisOf(payload.period);
    const offset = millisOf(payload.offset);
    return (ms) => {
      // The first start after ms - size.
      const start = ms - size + period - modulo(ms - size - offset, period);
      return encodeIntervalWindow({ start, end: start + size });
    };
  }
  return undefined;
}

function millisOf(time: { readonly seconds: bigint | number; readonly nanos: number } | undefined): bigint {
  if (time === undefined) return 0n;
  return BigInt(time.seconds) * 1000n + BigInt(Math.trunc(time.nanos / 1_000_000));
}

function modulo(value: bigint, divisor: bigint): bigint {
  const rest = value % divisor;
  return rest < 0n ? rest + divisor : rest;
}
