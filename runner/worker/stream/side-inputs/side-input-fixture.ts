/** Graphs, elements and reads for the tests of side inputs. */
import type { StateKey, StateRequest } from "../../../../proto/gen/beam_fn_api.ts";
import { FixedWindowsPayload, SlidingWindowsPayload } from "../../../../proto/gen/standard_window_fns.ts";
import type { Chunk } from "../../../base/chunk.ts";
import type { DatasetId, VertexId } from "../../../base/ids.ts";
import { encodeIntervalWindow } from "../../../coders/interval-window.ts";
import { encodePaneInfo, NO_FIRING_PANE, type PaneInfo } from "../../../coders/pane-info.ts";
import { encodeHeader } from "../../../coders/windowed-value.ts";
import type {
  CoderSpec,
  ExecutableStageSpec,
  ExecutionGraph,
  SideInputSpec,
  WindowingSpec,
} from "../../../graph/execution-graph.ts";
import { FIXED_WINDOWS_URN, GLOBAL_WINDOWS_URN, SLIDING_WINDOWS_URN } from "../../../graph/urns.ts";
import type { StateTable } from "../../../state/state-rows.ts";
import { type Timestamp, writeExactMs } from "../../../time/timestamp.ts";
import { TaskSideInputs, type TaskSideInputsInit } from "./task-side-inputs.ts";

const ITERABLE = "beam:side_input:iterable:v1";
export const MULTIMAP = "beam:side_input:multimap:v1";

const coder = (urn: string, ...components: string[]): CoderSpec => ({
  urn: `beam:coder:${urn}:v1`,
  payload: new Uint8Array(0),
  components,
});

const CODERS: Readonly<Record<string, CoderSpec>> = {
  text: coder("string_utf8"),
  pair: coder("kv", "text", "text"),
  prefixed: coder("length_prefix"),
  global: coder("global_window"),
  interval: coder("interval_window"),
  custom: coder("custom_window", "prefixed"),
  ...Object.fromEntries(
    ["text", "pair"].flatMap((value) =>
      ["global", "interval", "custom"].map((window) => [`${value}-${window}`, coder("windowed_value", value, window)]),
    ),
  ),
};

function windowing(windowFn: Partial<WindowingSpec> = {}): WindowingSpec {
  return {
    windowFnUrn: GLOBAL_WINDOWS_URN,
    windowFnPayload: new Uint8Array(),
    windowCoderId: "global",
    merging: false,
    timestampCombiner: "END_OF_WINDOW",
    trigger: new Uint8Array(),
    accumulationMode: "DISCARDING",
    allowedLatenessMs: 0,
    closingBehavior: "EMIT_IF_NONEMPTY",
    asksTriggerFor: "ELEMENTS_TOGETHER",
    onTimeBehavior: "FIRE_ALWAYS",
    ...windowFn,
  };
}

const duration = (ms: number) => ({ seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 });

export function fixed(sizeMs: number, offsetMs = 0): Partial<WindowingSpec> {
  const payload = FixedWindowsPayload.encode({ size: duration(sizeMs), offset: duration(offsetMs) }).finish();
  return { windowFnUrn: FIXED_WINDOWS_URN, windowFnPayload: payload, windowCoderId: "interval" };
}

export function sliding(sizeMs: number, periodMs: number): Partial<WindowingSpec> {
  const payload = SlidingWindowsPayload.encode({
    size: duration(sizeMs),
    period: duration(periodMs),
    offset: duration(0),
  }).finish();
  return { windowFnUrn: SLIDING_WINDOWS_URN, windowFnPayload: payload, windowCoderId: "interval" };
}

export interface Shape {
  readonly main?: Partial<WindowingSpec>;
  readonly side?: Partial<WindowingSpec>;
  readonly updating?: boolean;
  readonly element?: "text" | "pair";
  readonly accessPatternUrn?: string;
  readonly datasets?: readonly string[];
  readonly windowMapping?: SideInputSpec["windowMapping"];
}

export function graphOf(shape: Shape): { readonly graph: ExecutionGraph; readonly stage: ExecutableStageSpec } {
  const main = windowing(shape.main);
  const side = windowing(shape.side);
  const datasets = (shape.datasets ?? ["d1"]) as readonly DatasetId[];
  const graph: ExecutionGraph = {
    vertices: [],
    datasets: Object.fromEntries(
      datasets.map((id) => [
        id,
        {
          id,
          pcollectionId: "side",
          producer: "v0" as VertexId,
          coderId: `${shape.element ?? "text"}-${side.windowCoderId}`,
          windowingId: "side",
          partitioner: "broadcast",
          sizedRestrictions: false,
        },
      ]),
    ) as ExecutionGraph["datasets"],
    coders: CODERS,
    windowings: { main, side },
    environments: {},
    unbounded: true,
  };
  const sideInput: SideInputSpec = {
    transformId: "reader",
    localName: "side",
    datasets,
    accessPatternUrn: shape.accessPatternUrn ?? ITERABLE,
    windowingId: "side",
    mainWindowingId: "main",
    windowMapping: shape.windowMapping,
    updating: shape.updating ?? false,
  };
  const stage = { inputCoderId: `text-${main.windowCoderId}`, sideInputs: [sideInput] } as Partial<ExecutableStageSpec>;
  return { graph, stage: stage as ExecutableStageSpec };
}

export function openSideInputs(
  shape: Shape,
  table: StateTable,
  overrides: Partial<TaskSideInputsInit> = {},
): TaskSideInputs {
  return new TaskSideInputs({
    table,
    ...graphOf(shape),
    pageBytes: 1 << 20,
    mapEntryBytes: 1 << 26,
    cacheTokenPrefix: "t",
    ...overrides,
  });
}

export interface Element {
  readonly value: string | readonly [key: string, value: string];
  readonly at?: number;
  readonly windows?: readonly Uint8Array[];
  readonly pane?: Partial<PaneInfo>;
}

export const interval = (start: number, end: number): Uint8Array => encodeIntervalWindow({ start, end });
const GLOBAL = new Uint8Array(0);

function text(value: string): Buffer {
  return Buffer.concat([Uint8Array.of(Buffer.byteLength(value)), Buffer.from(value)]);
}

export function chunkOf(...elements: readonly Element[]): Chunk {
  const data = Buffer.concat(
    elements.flatMap(({ value, at = 0, windows = [GLOBAL], pane }) => {
      const paneBytes =
        pane === undefined
          ? Uint8Array.of(NO_FIRING_PANE)
          : encodePaneInfo({
              isFirst: pane.index === 0,
              isLast: false,
              timing: "EARLY",
              index: 0,
              nonSpeculativeIndex: -1,
              ...pane,
            });
      const parts = typeof value === "string" ? [text(value)] : value.map(text);
      return [encodeHeader(at as Timestamp, windows, paneBytes), ...parts];
    }),
  );
  return { data, elementCount: elements.length };
}

/** The texts in the bytes. */
export function textsIn(bytes: Uint8Array): string[] {
  const texts: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 1 + (bytes[at] as number);
    texts.push(Buffer.from(bytes.subarray(at + 1, end)).toString());
    at = end;
  }
  return texts;
}

export function request(kind: NonNullable<StateKey["type"]>["$case"], window: Uint8Array, key?: string): StateRequest {
  const value = { transformId: "reader", sideInputId: "side", window, key: key === undefined ? GLOBAL : text(key) };
  return requestOf({ $case: kind, value } as NonNullable<StateKey["type"]>, new Uint8Array(0));
}

function requestOf(type: NonNullable<StateKey["type"]>, continuationToken: Uint8Array): StateRequest {
  return {
    id: "1",
    instructionId: "i",
    stateKey: { type },
    request: { $case: "get", value: { continuationToken } },
  };
}

/** All pages, joined. */
export function readAll(sideInputs: TaskSideInputs, first: StateRequest): { data: Uint8Array; pages: number } {
  const parts: Uint8Array[] = [];
  let next = first;
  for (let pages = 1; ; pages++) {
    const reply = sideInputs.answer(next);
    if (reply.kind !== "get") throw new Error("not read");
    parts.push(reply.data);
    if (reply.continuationToken.length === 0) return { data: Buffer.concat(parts), pages };
    next = requestOf(first.stateKey?.type as NonNullable<StateKey["type"]>, reply.continuationToken);
  }
}

export function read(sideInputs: TaskSideInputs, window: Uint8Array = GLOBAL): string[] {
  return textsIn(readAll(sideInputs, request("iterableSideInput", window)).data);
}

/** Eight bytes of a timestamp, in hexadecimal. */
export function encodeExactMs(ms: bigint): string {
  const bytes = new Uint8Array(8);
  writeExactMs(bytes, 0, ms);
  return Buffer.from(bytes).toString("hex");
}
