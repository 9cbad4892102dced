// Triggered grouping for tests: elements in, panes out, decoded.
import type { Chunk } from "../../../base/chunk.ts";
import { decodePaneInfo, type PaneInfo } from "../../../coders/pane-info.ts";
import { newHeader, WindowedValueLayout } from "../../../coders/windowed-value.ts";
import { Trigger as TriggerProto } from "../../../../proto/gen/beam_runner_api.ts";
import type { WindowingSpec } from "../../../graph/execution-graph.ts";
import {
  chunksOf,
  CODERS,
  type Element,
  readText,
  readTexts,
  windowing,
  type WindowKind,
} from "../../../state/grouping/grouping-fixture.ts";
import { MemoryRows, type StateTable } from "../../../state/state-rows.ts";
import { MIN_TIMESTAMP, readTimestamp, type Timestamp } from "../../../time/timestamp.ts";
import type { TaskTime } from "../stream-ports.ts";
import { TriggeredGrouping, type TriggeredGroupingInit } from "./triggered-grouping.ts";

export interface Pane extends PaneInfo {
  readonly timestamp: Timestamp;
  /** Encoded, in hexadecimal. */
  readonly window: string;
  readonly key: string;
  readonly values: string[];
}

function decodePanes(kind: WindowKind, chunks: readonly Chunk[]): Pane[] {
  const layout = new WindowedValueLayout(CODERS, `out-${kind}`);
  const header = newHeader();
  const panes: Pane[] = [];
  for (const { data, elementCount } of chunks) {
    const before = panes.length;
    for (let at = 0; at < data.length;) {
      layout.readHeader(data, at, header);
      const { text: key, end: keyEnd } = readText(data, header.valueStart);
      const end = layout.skip(data, at);
      const values = readTexts(data.subarray(keyEnd + 4, end));
      if (Buffer.from(data).readInt32BE(keyEnd) !== values.length) throw new Error("the count of values is wrong");
      panes.push({
        ...decodePaneInfo(data, header.paneStart),
        timestamp: readTimestamp(data, at),
        window: Buffer.from(data.subarray(header.windowsStart, header.windowsEnd)).toString("hex"),
        key,
        values,
      });
      at = end;
    }
    if (panes.length - before !== elementCount) throw new Error("elementCount is wrong");
  }
  return panes;
}

export function triggerBytes(trigger: TriggerProto["trigger"]): Uint8Array {
  return TriggerProto.encode({ trigger }).finish();
}

export type Step =
  { readonly elements: readonly Element[] } | { readonly watermark: number } | { readonly processingTimeMs: number };

export interface GroupingRun {
  readonly kind: WindowKind;
  readonly windowing?: Partial<WindowingSpec>;
  readonly init?: Partial<TriggeredGroupingInit>;
  readonly startMs?: number;
}

/** A grouping that goes through steps, and can be taken down and restored between them. */
export class GroupingUnderTest {
  readonly #run: GroupingRun;
  #table: StateTable = new MemoryRows().table("grouping");
  grouping: TriggeredGrouping;
  time: TaskTime;

  constructor(run: GroupingRun) {
    this.#run = run;
    this.time = { inputWatermark: MIN_TIMESTAMP, processingTimeMs: run.startMs ?? 0 };
    this.grouping = this.#open();
  }

  async step(step: Step): Promise<Pane[]> {
    if ("elements" in step) {
      const { elements } = step;
      for (const chunk of chunksOf(elements, Math.max(1, elements.length))) await this.grouping.add(chunk, this.time);
    } else {
      if ("watermark" in step) this.time = { ...this.time, inputWatermark: step.watermark as Timestamp };
      else this.time = { ...this.time, processingTimeMs: step.processingTimeMs };
      const panes: Pane[] = [];
      for (let more = true; more;) {
        more = this.grouping.advance(this.time);
        panes.push(...decodePanes(this.#run.kind, this.grouping.takeOutput()));
      }
      return panes;
    }
    return decodePanes(this.#run.kind, this.grouping.takeOutput());
  }

  async steps(steps: readonly Step[]): Promise<Pane[]> {
    const panes: Pane[] = [];
    for (const step of steps) panes.push(...(await this.step(step)));
    return panes;
  }

  /** As after a crash right behind a snapshot: only the rows are left, in another order. */
  restore(): void {
    this.grouping.flush();
    const rows = [...this.#table.entries()].reverse();
    this.#table = new MemoryRows().table("grouping");
    for (const [key, value] of rows) this.#table.put(key, new Uint8Array(value));
    this.grouping = this.#open();
  }

  get rowCount(): number {
    return [...this.#table.entries()].length;
  }

  #open(): TriggeredGrouping {
    const { kind, windowing: overrides, init } = this.#run;
    return new TriggeredGrouping({
      coders: CODERS,
      inputCoderId: `in-${kind}`,
      windowing: windowing(kind, overrides),
      table: this.#table,
      maxParallelism: 128,
      chunkBytes: 4096,
      ...init,
    });
  }
}
