/**
 * Timers that the runner sets by itself, so that a DoFn hears of the expiration of every window in which a key had
 * input: at the window's maximum timestamp plus allowed lateness, without dynamic tag, with the window's maximum
 * timestamp as output timestamp, which holds the output watermark.
 *
 * Source: on_window_expiration_timer_family_spec of beam_runner_api.proto; StatefulDoFnRunner of the Java reference.
 */
import type { Chunk } from "../../../base/chunk.ts";
import { KeyedLayout, newKeyedPositions } from "../../../coders/key-slice.ts";
import { NO_FIRING_PANE } from "../../../coders/pane-info.ts";
import type { CoderTable } from "../../../graph/execution-graph.ts";
import { TIMESTAMP_BYTES, writeExactMs } from "../../../time/timestamp.ts";
import type { TimerChange, TimerFamily } from "./timer-family.ts";

export class WindowExpirationTimers {
  readonly #family: TimerFamily;
  readonly #layout: KeyedLayout;
  readonly #positions = newKeyedPositions();

  /** @throws WeirError when the input has no key. */
  constructor(family: TimerFamily, coders: CoderTable, inputCoderId: string) {
    this.#family = family;
    this.#layout = new KeyedLayout(coders, inputCoderId);
  }

  /** Hands on the timer of each key and window in the chunk, as often as they occur. */
  note({ data }: Chunk, each: (change: TimerChange) => void): void {
    const positions = this.#positions;
    const { header } = positions;
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    for (let at = 0; at < bytes.length;) {
      at = this.#layout.read(bytes, at, positions);
      let windowStart = header.windowsStart;
      for (let index = 0; index < header.windowCount; index++) {
        const windowEnd = this.#family.windowSkip(bytes, windowStart);
        const window = bytes.subarray(windowStart, windowEnd);
        each(
          this.#family.changeOf(
            bytes,
            header.valueStart,
            positions.keyEnd,
            window.toString("latin1"),
            this.#valueFor(window),
          ),
        );
        windowStart = windowEnd;
      }
    }
  }

  #valueFor(window: Uint8Array): Uint8Array {
    const value = new Uint8Array(2 * TIMESTAMP_BYTES + 1);
    writeExactMs(value, 0, this.#family.exactExpiryOf(window));
    writeExactMs(value, TIMESTAMP_BYTES, this.#family.exactMaxTimestampOf(window));
    value[2 * TIMESTAMP_BYTES] = NO_FIRING_PANE;
    return value;
  }
}
