/** Timers for tests: a stage with a few families over string keys, encoded as the Python SDK does, and read back. */
import type { Chunk } from "../../../base/chunk.ts";
import { decodeIntervalWindow, encodeIntervalWindow } from "../../../coders/interval-window.ts";
import { encodeHeader } from "../../../coders/windowed-value.ts";
import type { CoderSpec, TimerSpec, WindowingSpec } from "../../../graph/execution-graph.ts";
import { MemoryRows, type StateTable } from "../../../state/state-rows.ts";
import { readTimestamp, type Timestamp, writeTimestamp } from "../../../time/timestamp.ts";
import type { FiringTimers, TimersBundle } from "../stream-ports.ts";
import { KeyedTimers, type KeyedTimersInit } from "./keyed-timers.ts";

export const TRANSFORM = "ref_ParDo_7";
export const LATENESS_MS = 50;

const coder = (name: string, ...components: string[]): CoderSpec => ({
  urn: `beam:coder:${name}:v1`,
  payload: new Uint8Array(),
  components,
});

const CODERS = {
  key: coder("string_utf8"),
  kv: coder("kv", "key", "key"),
  global: coder("global_window"),
  interval: coder("interval_window"),
  globalTimer: coder("timer", "key", "global"),
  intervalTimer: coder("timer", "key", "interval"),
  input: coder("windowed_value", "kv", "interval"),
};

const WINDOWING: WindowingSpec = {
  windowFnUrn: "beam:window_fn:fixed_windows:v1",
  windowFnPayload: new Uint8Array(),
  windowCoderId: "interval",
  merging: false,
  timestampCombiner: "END_OF_WINDOW",
  trigger: new Uint8Array(),
  accumulationMode: "DISCARDING",
  allowedLatenessMs: LATENESS_MS,
  closingBehavior: "EMIT_IF_NONEMPTY",
  asksTriggerFor: "ELEMENTS_TOGETHER",
  onTimeBehavior: "FIRE_IF_NONEMPTY",
};

export function family(timerFamilyId: string, overrides: Partial<TimerSpec> = {}): TimerSpec {
  return {
    transformId: TRANSFORM,
    timerFamilyId,
    timeDomain: "EVENT_TIME",
    coderId: "intervalTimer",
    windowingId: "fixed",
    onWindowExpiration: false,
    ...overrides,
  };
}

export const FAMILIES: readonly TimerSpec[] = [
  family("a"),
  family("b"),
  family("processing", { timeDomain: "PROCESSING_TIME" }),
];

export function newTable(): StateTable {
  return new MemoryRows().table("timers");
}

export function open(
  timers: readonly TimerSpec[] = FAMILIES,
  table: StateTable = newTable(),
  more: Pick<KeyedTimersInit, "processingTimeOf"> = {},
): KeyedTimers {
  return new KeyedTimers({
    ...more,
    table,
    stage: {
      timers,
      transforms: [{ id: TRANSFORM, uniqueName: "Count/ParDo", urn: "beam:transform:pardo:v1" }],
      inputCoderId: "input",
    },
    graph: { coders: CODERS, windowings: { fixed: WINDOWING } },
    maxParallelism: 128,
  });
}

export interface TestTimer {
  readonly family: string;
  readonly key: string;
  readonly tag: string;
  /** The end of a window of ten milliseconds. */
  readonly window: number;
  readonly fire: number;
  readonly hold: number;
}

export function timer(timerFamilyId: string, fire: number, overrides: Partial<TestTimer> = {}): TestTimer {
  return { family: timerFamilyId, key: "k", tag: "", window: 10, fire, hold: fire, ...overrides };
}

function encodeTimer({ key, tag, window, fire, hold }: TestTimer, clear = false): Uint8Array {
  const times = new Uint8Array(17);
  writeTimestamp(times, 0, fire as Timestamp);
  writeTimestamp(times, 8, hold as Timestamp);
  times[16] = 0x0f;
  const encodedWindow = encodeIntervalWindow({ start: window - 10, end: window });
  const head = [key.length, ...Buffer.from(key), tag.length, ...Buffer.from(tag), 0, 0, 0, 1, ...encodedWindow];
  return Uint8Array.from(clear ? [...head, 1] : [...head, 0, ...times]);
}

function decodeTimers(timerFamilyId: string, data: Uint8Array): TestTimer[] {
  const bytes = Buffer.from(data);
  const timers: TestTimer[] = [];
  for (let at = 0; at < bytes.length;) {
    const keyEnd = at + 1 + (bytes[at] as number);
    const tagEnd = keyEnd + 1 + (bytes[keyEnd] as number);
    timers.push({
      family: timerFamilyId,
      key: bytes.toString("latin1", at + 1, keyEnd),
      tag: bytes.toString("latin1", keyEnd + 1, tagEnd),
      window: decodeIntervalWindow(bytes, tagEnd + 4).end,
      fire: readTimestamp(bytes, tagEnd + 14),
      hold: readTimestamp(bytes, tagEnd + 22),
    });
    // Count 4, window 9, clear bit 1, times 16, pane 1.
    at = tagEnd + 31;
  }
  return timers;
}

export function set(bundle: TimersBundle, ...timers: readonly TestTimer[]): void {
  for (const each of timers) bundle.accept(TRANSFORM, each.family, encodeTimer(each));
}

export function clear(bundle: TimersBundle, ...timers: readonly TestTimer[]): void {
  for (const each of timers) bundle.accept(TRANSFORM, each.family, encodeTimer(each, true));
}

export function commitSet(timers: KeyedTimers, ...each: readonly TestTimer[]): void {
  const bundle = timers.beginBundle();
  set(bundle, ...each);
  bundle.commit();
}

export function take(
  timers: KeyedTimers,
  inputWatermark: number,
  processingTimeMs = 0,
  maxCount = 1000,
): FiringTimers | undefined {
  return timers.takeEligible({ inputWatermark: inputWatermark as Timestamp, processingTimeMs }, maxCount);
}

export function decoded(firing: FiringTimers | undefined): TestTimer[] {
  return (firing?.batches ?? []).flatMap((batch) => decodeTimers(batch.timerFamilyId, batch.timers));
}

/** Fires and commits round by round until none is left. */
export function fireAll(timers: KeyedTimers, inputWatermark: number, processingTimeMs = 0): TestTimer[][] {
  const rounds: TestTimer[][] = [];
  for (;;) {
    const firing = take(timers, inputWatermark, processingTimeMs);
    if (firing === undefined) return rounds;
    rounds.push(decoded(firing));
    firing.commit();
  }
}

/** An element of the key in windows of ten milliseconds. */
export function element(key: string, ...windowEnds: number[]): Chunk {
  const header = encodeHeader(
    0 as Timestamp,
    windowEnds.map((end) => encodeIntervalWindow({ start: end - 10, end })),
  );
  return { data: Uint8Array.from([...header, key.length, ...Buffer.from(key), 1, 118]), elementCount: 1 };
}
