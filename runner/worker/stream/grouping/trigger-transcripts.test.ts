// Beam's trigger transcripts on the grouping itself, each also with a restore between any two events. Seconds in the
// transcripts are seconds here; window ends and timestamps are compared in whole seconds, as Beam's own test does.
import { readFileSync } from "node:fs";
import test from "ava";
import { parseAllDocuments } from "yaml";
import type { Trigger as TriggerProto } from "../../../../proto/gen/beam_runner_api.ts";
import { decodeIntervalWindow } from "../../../coders/interval-window.ts";
import type { WindowingSpec } from "../../../graph/execution-graph.ts";
import { type Element, interval, SESSIONS } from "../../../state/grouping/grouping-fixture.ts";
import { MAX_TIMESTAMP } from "../../../time/timestamp.ts";
import { GroupingUnderTest, type Pane, triggerBytes } from "./grouping-fixture.ts";

interface Expected {
  readonly window: readonly number[];
  readonly values?: readonly number[];
  readonly timestamp?: number;
  readonly index?: number;
  readonly nonspeculative_index?: number;
  readonly early?: boolean;
  readonly late?: boolean;
  readonly final?: boolean;
}

interface Transcript {
  readonly name: string;
  readonly window_fn?: string;
  readonly trigger_fn?: string;
  readonly timestamp_combiner?: string;
  readonly accumulation_mode?: string;
  readonly allowed_lateness?: number;
  readonly error?: string;
  readonly transcript: readonly {
    readonly input?: readonly number[];
    readonly watermark?: number;
    readonly clock?: number;
    readonly expect?: readonly Expected[];
    readonly state?: unknown;
  }[];
}

/** Name(part, name=part): what the transcripts' Python expressions are made of. */
interface Call {
  readonly name: string;
  readonly parts: readonly { readonly keyword: string | undefined; readonly value: Call }[];
}

function parseCall(text: string): Call {
  let at = 0;
  const parse = (): Call => {
    const name = (/^\s*\w+/.exec(text.slice(at)) ?? [""])[0];
    at += name.length;
    const parts: { keyword: string | undefined; value: Call }[] = [];
    if (text[at] === "(") {
      do {
        at++;
        const keyword = /^\s*(\w+)=/.exec(text.slice(at));
        at += keyword?.[0].length ?? 0;
        parts.push({ keyword: keyword?.[1], value: parse() });
      } while (text[at] === ",");
      at++;
    }
    return { name: name.trim(), parts };
  };
  return parse();
}

function triggerOf({ name, parts }: Call): { readonly trigger: TriggerProto["trigger"] } {
  const part = (keyword: string) => {
    const found = parts.find((candidate) => candidate.keyword === keyword);
    return found && triggerOf(found.value);
  };
  switch (name) {
    case "Default":
      return { trigger: { $case: "default", value: {} } };
    case "AfterCount":
      return { trigger: { $case: "elementCount", value: { elementCount: Number(parts[0]?.value.name) } } };
    case "AfterWatermark":
      return {
        trigger: { $case: "afterEndOfWindow", value: { earlyFirings: part("early"), lateFirings: part("late") } },
      };
    default:
      throw new Error(`the transcripts have a trigger that this test does not know: ${name}`);
  }
}

const COMBINERS: Readonly<Record<string, WindowingSpec["timestampCombiner"]>> = {
  OUTPUT_AT_EOW: "END_OF_WINDOW",
  OUTPUT_AT_EARLIEST: "EARLIEST_IN_PANE",
  OUTPUT_AT_LATEST: "LATEST_IN_PANE",
};

function elementsOf(windowFn: Call, seconds: readonly number[]): Element[] {
  const size = Number(windowFn.parts[0]?.value.name);
  return seconds.map((second) => {
    const start = windowFn.name === "Sessions" ? second : Math.floor(second / size) * size;
    const windows = [interval(start * 1000, (start + size) * 1000)];
    return { timestamp: second * 1000, windows, key: "k", value: String(second) };
  });
}

function actualOf({ window, values, timestamp, index, nonSpeculativeIndex, timing, isLast }: Pane): Required<Expected> {
  const { start, end } = decodeIntervalWindow(Buffer.from(window, "hex"), 0);
  return {
    window: [start / 1000, Math.floor((end - 1) / 1000)],
    values: values.map(Number).toSorted((a, b) => a - b),
    timestamp: Math.floor(timestamp / 1000),
    index,
    nonspeculative_index: nonSpeculativeIndex,
    early: timing === "EARLY",
    late: timing === "LATE",
    final: isLast,
  };
}

function matches(actual: Required<Expected>, expected: Expected): boolean {
  return Object.entries(expected).every(
    ([field, value]) => JSON.stringify(actual[field as keyof Expected]) === JSON.stringify(value),
  );
}

/** @throws Error when panes and expectations differ, in the transcripts' own words. */
function check(panes: readonly Required<Expected>[], expected: readonly Expected[]): void {
  const said = `expected ${JSON.stringify(expected)}, fired ${JSON.stringify(panes)}`;
  if (panes.length > expected.length) throw new Error(`Unexpected output: ${said}`);
  if (panes.length < expected.length) throw new Error(`Unmatched output: ${said}`);
  for (const pane of panes)
    if (!expected.some((candidate) => matches(pane, candidate))) throw new Error(`Unmatched output: ${said}`);
}

async function run(transcript: Transcript, restores: boolean): Promise<void> {
  const windowFn = parseCall(transcript.window_fn ?? "FixedWindows(10)");
  const timestampCombiner = COMBINERS[transcript.timestamp_combiner ?? "OUTPUT_AT_EOW"];
  if (timestampCombiner === undefined) throw new Error(`unknown combiner ${transcript.timestamp_combiner}`);
  const tested = new GroupingUnderTest({
    kind: "interval",
    windowing: {
      ...(windowFn.name === "Sessions" ? SESSIONS : {}),
      timestampCombiner,
      trigger: triggerBytes(triggerOf(parseCall(transcript.trigger_fn ?? "Default")).trigger),
      accumulationMode: transcript.accumulation_mode === "discarding" ? "DISCARDING" : "ACCUMULATING",
      allowedLatenessMs: (transcript.allowed_lateness ?? 0) * 1000,
      // As plans have it for Python.
      closingBehavior: "EMIT_IF_NONEMPTY",
      onTimeBehavior: "FIRE_ALWAYS",
    },
  });
  let panes: Pane[] = [];
  for (const { input, watermark, expect } of transcript.transcript) {
    if (restores) tested.restore();
    if (expect !== undefined) {
      check(panes.map(actualOf), expect);
      panes = [];
      continue;
    }
    check(panes.map(actualOf), []);
    if (input !== undefined) panes = await tested.step({ elements: elementsOf(windowFn, input) });
    if (watermark !== undefined) panes = await tested.step({ watermark: watermark * 1000 });
  }
  check(panes.map(actualOf), []);
  await tested.step({ watermark: MAX_TIMESTAMP });
  if (tested.grouping.size !== 0) throw new Error("windows are left when all have expired");
}

const TRANSCRIPTS = parseAllDocuments(
  readFileSync(new URL("./testdata/trigger_transcripts.yaml", import.meta.url), "utf8"),
).map((document) => document.toJS() as Transcript);
/** It has no translation to the pipeline proto. */
const UNTRANSLATABLE = "OUTPUT_AT_EARLIEST_TRANSFORMED";

for (const [number, transcript] of TRANSCRIPTS.entries()) {
  if (transcript.timestamp_combiner === UNTRANSLATABLE) continue;
  for (const restores of [false, true])
    test(`transcript ${number} ${transcript.name}${restores ? ", restored between its events" : ""}`, async (t) => {
      const result = run(transcript, restores);
      if (transcript.error === undefined) await t.notThrowsAsync(result);
      else await t.throwsAsync(result, { message: new RegExp(transcript.error) });
    });
}
