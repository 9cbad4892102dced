/**
 * A timer family of a stage: how its timers are encoded, read in place, and what identifies one.
 *
 * Encoded timer (beam:coder:timer:v1): key, dynamic tag (length and UTF-8), number of windows (4 bytes), windows, clear
 * bit, and unless it is cleared fire timestamp (8 bytes), hold timestamp (8 bytes), pane. All nested.
 * Source: beam_runner_api.proto; TimerCoderImpl of the Python SDK, Timer.Coder of the Java SDK.
 */
import { WeirError } from "../../../base/errors.ts";
import {
  malformed,
  readInt32,
  readVarint,
  TruncatedElementError,
  varintLength,
  writeVarint,
} from "../../../coders/byte-reader.ts";
import { compileSkip, componentOf } from "../../../coders/element-boundary.ts";
import { hashBytes, keyGroupOf } from "../../../coders/key-group.ts";
import { paneEnd, skipBool, skipLengthPrefixed, type Skip } from "../../../coders/primitive-boundary.ts";
import type { CoderTable, ExecutionGraph, TimerSpec } from "../../../graph/execution-graph.ts";
import { keyGroupPrefix } from "../../../state/state-rows.ts";
import {
  END_OF_GLOBAL_WINDOW,
  MAX_TIMESTAMP,
  readExactMs,
  readTimestamp,
  type Timestamp,
  TIMESTAMP_BYTES,
  writeTimestamp,
} from "../../../time/timestamp.ts";

/** A change to one timer, in one window. */
export interface TimerChange {
  readonly family: TimerFamily;
  readonly rowKey: string;
  readonly cellId: string;
  readonly windowBytes: number;
  /** What the row holds: fire timestamp, hold timestamp, pane. Undefined when the timer is cleared. */
  readonly value: Uint8Array | undefined;
}

type WindowKind = "global" | "interval" | "custom";

const WINDOW_KINDS: Readonly<Record<string, WindowKind>> = {
  "beam:coder:global_window:v1": "global",
  "beam:coder:interval_window:v1": "interval",
  "beam:coder:custom_window:v1": "custom",
};

const END_OF_GLOBAL_WINDOW_MS = exactMs(END_OF_GLOBAL_WINDOW);
const TIMES_BYTES = 2 * TIMESTAMP_BYTES;
/** Behind the windows' count and the windows: the count of one window, and the clear bit of a timer that is set. */
const FIXED_BYTES = 5;

export class TimerFamily {
  readonly transformId: string;
  readonly transformName: string;
  readonly timerFamilyId: string;
  readonly isEventTime: boolean;
  readonly onWindowExpiration: boolean;
  readonly allowedLatenessMs: number;
  /** Its windows end: they are not the global window. */
  readonly windowsExpire: boolean;
  /** Place among the stage's families; those of window expiration come last. */
  rank = 0;
  /** Names the family in row keys, behind the key group. */
  readonly rowPrefix: string;
  readonly windowSkip: Skip;
  readonly #name: string;
  readonly #what: string;
  readonly #keySkip: Skip;
  readonly #tagSkip: Skip;
  readonly #clearSkip: Skip;
  readonly #windowKind: WindowKind;
  readonly #maxParallelism: number;

  /** @throws WeirError naming the transform and the family whose coder the runner cannot walk. */
  constructor(
    spec: TimerSpec,
    transformName: string,
    graph: Pick<ExecutionGraph, "coders" | "windowings">,
    maxParallelism: number,
  ) {
    this.transformId = spec.transformId;
    this.transformName = transformName;
    this.timerFamilyId = spec.timerFamilyId;
    this.isEventTime = spec.timeDomain === "EVENT_TIME";
    this.onWindowExpiration = spec.onWindowExpiration;
    this.allowedLatenessMs = graph.windowings[spec.windowingId]?.allowedLatenessMs ?? 0;
    this.rowPrefix = binary(spec.transformId) + binary(spec.timerFamilyId);
    this.#name = `timer family "${spec.timerFamilyId}" of transform ${transformName}`;
    this.#maxParallelism = maxParallelism;
    const { coders } = graph;
    const coder = coders[spec.coderId];
    this.#what = `"${spec.coderId}" (${coder?.urn ?? "not defined"})`;
    if (coder?.urn !== "beam:coder:timer:v1") throw this.#unreadable(`coder ${this.#what} is no timer coder`);
    this.#keySkip = compileSkip(coders, componentOf(coder, 0, this.#what));
    this.#tagSkip = skipLengthPrefixed(this.#what);
    this.#clearSkip = skipBool(this.#what);
    const windowCoderId = componentOf(coder, 1, this.#what);
    this.windowSkip = compileSkip(coders, windowCoderId);
    this.#windowKind = this.#windowKindOf(coders, windowCoderId);
    this.windowsExpire = this.#windowKind !== "global";
  }

  #windowKindOf(coders: CoderTable, coderId: string): WindowKind {
    const urn = coders[coderId]?.urn ?? "not defined";
    const kind = WINDOW_KINDS[urn];
    if (kind === undefined)
      throw this.#unreadable(`windows of coder "${coderId}" (${urn}) are not known to the runner`);
    return kind;
  }

  /** Hands on each timer of the bytes, in each of its windows. @throws WeirError DATA_LOSS naming the family. */
  decode(data: Uint8Array, each: (change: TimerChange) => void): void {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    for (let at = 0; at < bytes.length;) {
      try {
        at = this.#decodeOne(bytes, at, each);
      } catch (failure) {
        if (failure instanceof TruncatedElementError) failure.wholeBytes = at;
        throw this.named(failure);
      }
    }
  }

  #decodeOne(bytes: Buffer, start: number, each: (change: TimerChange) => void): number {
    const keyEnd = this.#keySkip(bytes, start);
    const tagEnd = this.#tagSkip(bytes, keyEnd);
    const windowCount = readInt32(bytes, tagEnd, this.#what);
    const windowsStart = tagEnd + 4;
    if (windowCount < 1) throw malformed(this.#what, bytes, tagEnd, "is in no window");
    if (this.#windowKind === "global" && windowCount > 1)
      throw malformed(this.#what, bytes, tagEnd, "is in the global window more than once");
    let windowsEnd = windowsStart;
    for (let index = 0; index < windowCount; index++) windowsEnd = this.windowSkip(bytes, windowsEnd);
    const setStart = this.#clearSkip(bytes, windowsEnd);
    const isCleared = bytes[windowsEnd] === 1;
    const end = isCleared ? setStart : paneEnd(bytes, setStart + TIMES_BYTES, this.#what);
    // A copy: not a view into what came over the network.
    const value = isCleared ? undefined : new Uint8Array(bytes.subarray(setStart, end));
    const keyGroup = keyGroupPrefix(keyGroupOf(hashBytes(bytes, start, keyEnd), this.#maxParallelism));
    const key = bytes.toString("latin1", start, keyEnd);
    const tag = bytes.toString("latin1", keyEnd, tagEnd);
    for (let at = windowsStart, index = 0; index < windowCount; index++) {
      const windowEnd = this.windowSkip(bytes, at);
      const window = bytes.toString("latin1", at, windowEnd);
      each(this.#change(keyGroup, key, tag, window, value));
      at = windowEnd;
    }
    return end;
  }

  /** As if the SDK had set the timer without a dynamic tag. @param value fire timestamp, hold timestamp, pane */
  changeOf(bytes: Buffer, keyStart: number, keyEnd: number, window: string, value: Uint8Array): TimerChange {
    const keyGroup = keyGroupPrefix(keyGroupOf(hashBytes(bytes, keyStart, keyEnd), this.#maxParallelism));
    return this.#change(keyGroup, bytes.toString("latin1", keyStart, keyEnd), "\0", window, value);
  }

  #change(keyGroup: string, key: string, tag: string, window: string, value: Uint8Array | undefined): TimerChange {
    return {
      family: this,
      rowKey: keyGroup + this.rowPrefix + key + tag + window,
      cellId: key + window,
      windowBytes: window.length,
      value,
    };
  }

  /** A row as the change that put it. @throws WeirError DATA_LOSS naming the family. */
  changeOfRow(rowKey: string, value: Uint8Array): TimerChange {
    const bytes = Buffer.from(rowKey.slice(2 + this.rowPrefix.length), "latin1");
    try {
      const keyEnd = this.#keySkip(bytes, 0);
      const tagEnd = this.#tagSkip(bytes, keyEnd);
      if (this.windowSkip(bytes, tagEnd) !== bytes.length) throw malformed(this.#what, bytes, tagEnd, "is too long");
      if (paneEnd(value, TIMES_BYTES, this.#what) !== value.length)
        throw malformed(this.#what, value, TIMES_BYTES, "is too long");
      const window = bytes.toString("latin1", tagEnd);
      return {
        family: this,
        rowKey,
        cellId: bytes.toString("latin1", 0, keyEnd) + window,
        windowBytes: window.length,
        value,
      };
    } catch (failure) {
      throw this.named(failure);
    }
  }

  /** When a timer is due: event time, or milliseconds of processing time. */
  dueOf(value: Uint8Array): number {
    // As in the Java reference: after all timers of the window's last millisecond, and when no element can come in time.
    return readTimestamp(value, 0) + (this.onWindowExpiration ? 1 : 0);
  }

  /** MAX_TIMESTAMP or more where it holds nothing. */
  holdOf(value: Uint8Array): Timestamp {
    return Math.min(readTimestamp(value, 8), MAX_TIMESTAMP) as Timestamp;
  }

  maxTimestampOf(window: Uint8Array): Timestamp {
    switch (this.#windowKind) {
      case "global":
        return END_OF_GLOBAL_WINDOW;
      case "interval":
        return (readTimestamp(window, 0) - 1) as Timestamp;
      case "custom":
        return readTimestamp(window, 0);
    }
  }

  exactMaxTimestampOf(window: Uint8Array): bigint {
    switch (this.#windowKind) {
      case "global":
        return END_OF_GLOBAL_WINDOW_MS;
      case "interval":
        return readExactMs(window, 0) - 1n;
      case "custom":
        return readExactMs(window, 0);
    }
  }

  /** A window's maximum timestamp plus the allowed lateness, but not beyond the end of the global window. */
  exactExpiryOf(window: Uint8Array): bigint {
    const expiry = this.exactMaxTimestampOf(window) + BigInt(this.allowedLatenessMs);
    return expiry < END_OF_GLOBAL_WINDOW_MS ? expiry : END_OF_GLOBAL_WINDOW_MS;
  }

  /** How many bytes `encode` writes. */
  encodedBytes(rowKey: string, value: Uint8Array): number {
    return rowKey.length - 2 - this.rowPrefix.length + FIXED_BYTES + value.length;
  }

  /** Writes a timer as it goes to the SDK: as it was set, in its one window. @returns the position after it. */
  encode(rowKey: string, windowBytes: number, value: Uint8Array, into: Buffer, position: number): number {
    const windowStart = rowKey.length - windowBytes;
    let at = position + into.write(rowKey.slice(2 + this.rowPrefix.length, windowStart), position, "latin1");
    at = into.writeInt32BE(1, at);
    at += into.write(rowKey.slice(windowStart), at, "latin1");
    into[at++] = 0;
    into.set(value, at);
    return at + value.length;
  }

  #unreadable(problem: string): WeirError {
    return new WeirError({
      code: "UNIMPLEMENTED",
      domain: "internal",
      message: `The runner cannot read timers of ${this.#name}: ${problem}.`,
    });
  }

  /** A failure to read its timers, naming it. */
  named(failure: unknown): WeirError {
    const cause = WeirError.from(failure);
    const { code, domain } = cause;
    const init = { code, domain, message: `A timer of ${this.#name} cannot be read. ${cause.message}`, cause };
    if (!(cause instanceof TruncatedElementError)) return new WeirError(init);
    return Object.assign(new TruncatedElementError(init), { wholeBytes: cause.wholeBytes });
  }
}

/** The names of the transform and the family that a row key begins with, behind its key group. */
export function rowPrefixOf(rowKey: string): string {
  const bytes = Buffer.from(rowKey.slice(2), "latin1");
  let at = 0;
  for (let name = 0; name < 2; name++) {
    const length = readVarint(bytes, at, "timer row");
    at += varintLength(length) + length;
    if (at > bytes.length) throw malformed("timer row", bytes, at);
  }
  return rowKey.slice(2, 2 + at);
}

function binary(name: string): string {
  const length = Buffer.byteLength(name);
  const bytes = Buffer.alloc(varintLength(length) + length);
  bytes.write(name, writeVarint(bytes, 0, length));
  return bytes.toString("latin1");
}

function exactMs(timestamp: Timestamp): bigint {
  const bytes = new Uint8Array(TIMESTAMP_BYTES);
  writeTimestamp(bytes, 0, timestamp);
  return readExactMs(bytes, 0);
}
