/**
 * One side input of one streaming task: its content, its watermark, which of its windows can be read.
 *
 * A window can be read when the watermark has passed its maximum timestamp (an empty one too), or, where the side input
 * is an updating one, from its first pane on.
 */
import { present } from "../../../base/assert.ts";
import type { Chunk } from "../../../base/chunk.ts";
import type { ExecutionGraph, SideInputSpec } from "../../../graph/execution-graph.ts";
import { SIDE_INPUT_URN } from "../../../graph/urns.ts";
import type { SideInputKind, SideInputPage } from "../../../state/side-input/materialised-side-input.ts";
import type { StateTable } from "../../../state/state-rows.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../../time/timestamp.ts";
import { panePolicy } from "./pane-policy.ts";
import { SideInputContent } from "./side-input-content.ts";
import { SideInputPages } from "./side-input-pages.ts";
import { type MapWindows, WindowMapping } from "./window-mapping.ts";

export class StreamSideInput {
  readonly spec: SideInputSpec;
  readonly #mapping: WindowMapping;
  readonly #content: SideInputContent;
  readonly #pages: SideInputPages;
  readonly #mainLatenessMs: number;
  #watermark: Timestamp;
  /** Windows that the SDK may have cached since the token last changed. */
  readonly #readWindows = new Set<string>();
  #tokenVersion = 0;

  constructor(
    table: StateTable,
    rowPrefix: string,
    graph: ExecutionGraph,
    spec: SideInputSpec,
    watermark: Timestamp,
    mapEntryBytes: number,
    mapWindows: MapWindows | undefined,
    onMapped: (failure?: unknown) => void,
  ) {
    this.spec = spec;
    this.#watermark = watermark;
    const windowing = present(graph.windowings[spec.windowingId], "a side input's windowing");
    this.#mainLatenessMs = present(graph.windowings[spec.mainWindowingId], "a windowing").allowedLatenessMs;
    this.#mapping = new WindowMapping(graph, spec, mapWindows, onMapped);
    const [dataset] = spec.datasets;
    const { coderId } = present(dataset === undefined ? undefined : graph.datasets[dataset], "a side input's dataset");
    this.#content = new SideInputContent(
      table,
      rowPrefix,
      graph.coders,
      coderId,
      (isKeyValue) => panePolicy(windowing, spec.updating, isKeyValue),
      (window) => this.#changing(window),
    );
    const isMultimap = spec.accessPatternUrn === SIDE_INPUT_URN.multimap;
    if (isMultimap && this.#content.keySkip === undefined)
      throw new Error(`Side input "${spec.localName}" of ${spec.transformId} is a multimap of what are no pairs.`);
    const keySkip = isMultimap ? this.#content.keySkip : undefined;
    this.#pages = new SideInputPages(
      (segment) => this.#content.valuesOf(segment),
      this.#content.valueSkip,
      keySkip,
      mapEntryBytes,
    );
  }

  /** Every element of the main input can read it. */
  get allReady(): boolean {
    return this.#watermark >= MAX_TIMESTAMP || (this.#mapping.isGlobal && this.isReady("") === true);
  }

  /** @param mainWindow encoded, as a binary string */
  isReady(mainWindow: string): boolean {
    if (this.#watermark >= MAX_TIMESTAMP) return true;
    const mapped = this.#mapping.of(mainWindow);
    if (mapped === undefined) return false;
    const { window, maxTimestamp } = mapped;
    // Not at the maximum timestamp itself: panes that are on time hold the watermark there until they have come.
    if (this.#watermark > maxTimestamp) return true;
    return this.spec.updating && window !== undefined && (this.#content.window(window)?.units.size ?? 0) > 0;
  }

  add(chunk: Chunk): void {
    this.#content.add(chunk);
  }

  /** @param watermark over all its datasets */
  advance(watermark: Timestamp): void {
    if (watermark <= this.#watermark) return;
    this.#watermark = watermark;
    for (const window of [...this.#content.windows])
      if (this.#maxTimestampOf(window) < watermark) this.#content.settle(window);
  }

  page(kind: SideInputKind, window: Uint8Array, key: Uint8Array, token: Uint8Array, pageBytes: number): SideInputPage {
    const name = Buffer.from(window).toString("latin1");
    this.#readWindows.add(name);
    return this.#pages.page(this.#content.window(name), kind, key, token, pageBytes);
  }

  /** Changes when a window changes that was read since it last changed: what the SDK has cached is wrong then. */
  get tokenVersion(): number {
    return this.#tokenVersion;
  }

  #changing(window: string): void {
    if (!this.#readWindows.has(window)) return;
    this.#readWindows.clear();
    this.#tokenVersion++;
  }

  /** Drops windows that no main input at or after the watermark reads any more. */
  expire(mainInputWatermark: Timestamp): void {
    if (!this.#mapping.isByEnd && mainInputWatermark < MAX_TIMESTAMP) return;
    // What is still to come would bring a window back: its own watermark must have passed it too.
    const passed = Math.min(mainInputWatermark - this.#mainLatenessMs, this.#watermark);
    const end = mainInputWatermark >= MAX_TIMESTAMP ? this.#watermark : passed;
    for (const window of [...this.#content.windows])
      if (this.#maxTimestampOf(window) < end) {
        this.#content.drop(window);
        this.#readWindows.delete(window);
      }
  }

  #maxTimestampOf(window: string): Timestamp {
    return this.#mapping.maxTimestampOf(Buffer.from(window, "latin1"));
  }
}
