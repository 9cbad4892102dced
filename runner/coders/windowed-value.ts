/**
 * The layout of an encoded windowed value, read in place: timestamp (8 bytes, big-endian, sign bit flipped), number of
 * windows (4 bytes), windows, pane info, value.
 *
 * Source: beam:coder:windowed_value:v1 of beam_runner_api.proto; WindowedValueCoderImpl of the Python SDK.
 */
import { WeirError } from "../base/errors.ts";
import type { CoderTable } from "../graph/execution-graph.ts";
import { type Timestamp, writeTimestamp } from "../time/timestamp.ts";
import { malformed, readInt32 } from "./byte-reader.ts";
import { compileSkip, componentOf, type Skip } from "./element-boundary.ts";
import { NO_FIRING_PANE } from "./pane-info.ts";
import { paneEnd } from "./primitive-boundary.ts";

/** Positions within the bytes that were read last; reused over elements. */
export interface WindowedValueHeader {
  timestampStart: number;
  windowCount: number;
  /** After the count. */
  windowsStart: number;
  windowsEnd: number;
  paneStart: number;
  valueStart: number;
}

export function newHeader(): WindowedValueHeader {
  return { timestampStart: 0, windowCount: 0, windowsStart: 0, windowsEnd: 0, paneStart: 0, valueStart: 0 };
}

export class WindowedValueLayout {
  /** Over the whole windowed value. */
  readonly skip: Skip;
  readonly valueSkip: Skip;
  readonly windowSkip: Skip;
  readonly valueCoderId: string;
  readonly windowCoderId: string;
  readonly #what: string;

  /** @param coderId a windowed_value coder. @throws WeirError for coders that the runner cannot walk. */
  constructor(coders: CoderTable, coderId: string) {
    const coder = coders[coderId];
    this.#what = `"${coderId}" (${coder?.urn ?? "not defined"})`;
    if (coder?.urn !== "beam:coder:windowed_value:v1")
      throw new WeirError({
        code: "INVALID_ARGUMENT",
        domain: "internal",
        message: `Elements between stages are windowed values; coder ${this.#what} is none.`,
      });
    this.valueCoderId = componentOf(coder, 0, this.#what);
    this.windowCoderId = componentOf(coder, 1, this.#what);
    this.skip = compileSkip(coders, coderId);
    this.valueSkip = compileSkip(coders, this.valueCoderId);
    this.windowSkip = compileSkip(coders, this.windowCoderId);
  }

  /** Fills `into` for the element at `position`. @throws WeirError DATA_LOSS when the bytes end before the value. */
  readHeader(bytes: Uint8Array, position: number, into: WindowedValueHeader): void {
    const windowCount = readInt32(bytes, position + 8, this.#what);
    if (windowCount < 0) throw malformed(this.#what, bytes, position, "has a negative number of windows");
    let at = position + 12;
    into.timestampStart = position;
    into.windowCount = windowCount;
    into.windowsStart = at;
    for (let index = 0; index < windowCount; index++) at = this.windowSkip(bytes, at);
    into.windowsEnd = at;
    into.paneStart = at;
    into.valueStart = paneEnd(bytes, at, this.#what);
  }

  /** How many elements the bytes hold. @throws WeirError DATA_LOSS when they do not end with an element. */
  countElements(bytes: Uint8Array): number {
    const { skip } = this;
    let count = 0;
    for (let at = 0; at < bytes.length; count++) at = skip(bytes, at);
    return count;
  }

  /** Where each element begins, and at last where the bytes end. @throws WeirError DATA_LOSS. */
  elementOffsets(bytes: Uint8Array): Uint32Array {
    const { skip } = this;
    let offsets = new Uint32Array(64);
    let count = 0;
    for (let at = 0; at < bytes.length; at = skip(bytes, at)) {
      if (count + 1 === offsets.length) {
        const grown = new Uint32Array(offsets.length * 2);
        grown.set(offsets);
        offsets = grown;
      }
      offsets[count++] = at;
    }
    offsets[count] = bytes.length;
    return offsets.subarray(0, count + 1);
  }
}

/**
 * The bytes before the value.
 * @param windows encoded windows; one empty array for the global window
 * @param pane encoded pane info
 */
export function encodeHeader(
  timestamp: Timestamp,
  windows: readonly Uint8Array[],
  pane: Uint8Array = Uint8Array.of(NO_FIRING_PANE),
): Uint8Array {
  const windowBytes = windows.reduce((length, window) => length + window.length, 0);
  const bytes = new Uint8Array(12 + windowBytes + pane.length);
  writeTimestamp(bytes, 0, timestamp);
  new DataView(bytes.buffer).setInt32(8, windows.length);
  let at = 12;
  for (const part of [...windows, pane]) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
