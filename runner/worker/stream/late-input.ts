/**
 * Main input of a stateful stage whose windows have expired, and with them their state: it is dropped and counted. An
 * element in several windows keeps those that have not.
 *
 * Source: StatefulDoFnRunner of the Java reference; the limit is the one at which state is dropped.
 */
import type { Chunk } from "../../base/chunk.ts";
import { WindowedValueLayout } from "../../coders/windowed-value.ts";
import type { CoderTable, WindowingSpec } from "../../graph/execution-graph.ts";
import { MIN_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { divideByWindow } from "./side-inputs/divide-by-window.ts";
import { maxTimestampReader } from "./user-state-declaration.ts";
import type { MaxTimestampOf } from "./user-state-expiry.ts";

export class LateInput {
  readonly #layout: WindowedValueLayout;
  readonly #maxTimestampOf: MaxTimestampOf;
  readonly #allowedLatenessMs: number;
  readonly #onDropped: (count: number) => void;

  private constructor(
    layout: WindowedValueLayout,
    maxTimestampOf: MaxTimestampOf,
    allowedLatenessMs: number,
    onDropped: (count: number) => void,
  ) {
    this.#layout = layout;
    this.#maxTimestampOf = maxTimestampOf;
    this.#allowedLatenessMs = allowedLatenessMs;
    this.#onDropped = onDropped;
  }

  /** Undefined where windows never expire. @param inputCoderId a windowed_value coder */
  static of(
    coders: CoderTable,
    inputCoderId: string,
    windowing: WindowingSpec,
    onDropped: (count: number) => void,
  ): LateInput | undefined {
    const maxTimestampOf = maxTimestampReader(coders, windowing.windowCoderId);
    if (maxTimestampOf === undefined) return undefined;
    const layout = new WindowedValueLayout(coders, inputCoderId);
    return new LateInput(layout, maxTimestampOf, windowing.allowedLatenessMs, onDropped);
  }

  /** What is not late of a chunk; undefined when nothing is left. */
  keep(chunk: Chunk, watermark: Timestamp): Chunk | undefined {
    if (watermark <= MIN_TIMESTAMP) return chunk;
    const { ready, waiting } = divideByWindow(chunk, this.#layout, (window) => {
      const maxTimestamp = this.#maxTimestampOf(Buffer.from(window, "latin1"));
      return maxTimestamp + this.#allowedLatenessMs >= watermark;
    });
    if (waiting !== undefined) this.#onDropped(waiting.elementCount);
    return ready;
  }
}
