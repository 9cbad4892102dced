/**
 * Timers between bytes and values, and those that a bundle sets or clears.
 *
 * Encoded timer (beam:coder:timer:v1): key, dynamic tag, number of windows (4 bytes), windows, clear bit, and unless it
 * is cleared fire timestamp, hold timestamp, pane. All nested.
 */
import { NO_FIRING_PANE } from "../runner/coders/pane-info.ts";
import { MIN_TIMESTAMP, type Timestamp } from "../runner/time/timestamp.ts";
import { ByteReader, ByteWriter } from "./byte-stream.ts";
import { type ElementCoder, readPane } from "./element-coders.ts";
import type { FiredTimer } from "./user-functions.ts";
import type { Window } from "./windows.ts";

export interface TimerFamilyCoders {
  readonly key: ElementCoder;
  readonly window: ElementCoder;
}

export interface DecodedTimer extends FiredTimer {
  readonly key: unknown;
  readonly window: Window;
  /** It has no times then. */
  readonly cleared: boolean;
}

const WHAT = "timer";

/** Each timer of the bytes in each of its windows. */
export function decodeTimers(bytes: Uint8Array, family: string, coders: TimerFamilyCoders): DecodedTimer[] {
  const reader = new ByteReader(bytes);
  const timers: DecodedTimer[] = [];
  while (!reader.atEnd) {
    const key = coders.key.decode(reader);
    const tag = new TextDecoder().decode(reader.lengthPrefixed(WHAT));
    const windows: Window[] = [];
    const count = reader.int32(WHAT);
    for (let index = 0; index < count; index++) windows.push(coders.window.decode(reader) as Window);
    const cleared = reader.byte(WHAT) === 1;
    const fireTimestamp = cleared ? MIN_TIMESTAMP : reader.timestamp(WHAT);
    const holdTimestamp = cleared ? MIN_TIMESTAMP : reader.timestamp(WHAT);
    if (!cleared) readPane(reader);
    for (const window of windows) timers.push({ family, tag, fireTimestamp, holdTimestamp, key, window, cleared });
  }
  return timers;
}

/** Timers of a bundle, by transform and family, in the order in which they were set or cleared. */
export class BundleTimers {
  readonly #writers = new Map<string, ByteWriter>();

  set(
    stream: { readonly transformId: string; readonly family: string; readonly coders: TimerFamilyCoders },
    timer: { readonly key: unknown; readonly tag: string; readonly window: Window },
    times: { readonly fire: Timestamp; readonly hold: Timestamp } | "cleared",
  ): void {
    const id = timerStreamId(stream.transformId, stream.family);
    let writer = this.#writers.get(id);
    if (writer === undefined) this.#writers.set(id, (writer = new ByteWriter()));
    stream.coders.key.encode(timer.key, writer);
    writer.lengthPrefixed(new TextEncoder().encode(timer.tag));
    writer.int32(1);
    stream.coders.window.encode(timer.window, writer);
    writer.byte(times === "cleared" ? 1 : 0);
    if (times === "cleared") return;
    writer.timestamp(times.fire);
    writer.timestamp(times.hold);
    writer.byte(NO_FIRING_PANE);
  }

  encoded(transformId: string, family: string): Uint8Array {
    return this.#writers.get(timerStreamId(transformId, family))?.finish() ?? new Uint8Array();
  }
}

export function timerStreamId(transformId: string, family: string): string {
  return `${transformId}\n${family}`;
}
