/**
 * Pane info, as values and as bytes. Its first byte: bit 0 first pane, bit 1 last pane, bits 2-3 timing, bits 4-7 how
 * many indices follow as varints.
 *
 * Source: PaneInfoCoder of the Java SDK, PaneInfoCoderImpl of the Python SDK.
 */
import { malformed, readVarint, varintEnd, varintLength, writeVarint } from "./byte-reader.ts";

export type PaneTiming = "EARLY" | "ON_TIME" | "LATE" | "UNKNOWN";

export interface PaneInfo {
  readonly isFirst: boolean;
  readonly isLast: boolean;
  readonly timing: PaneTiming;
  readonly index: number;
  /** -1 for early panes. */
  readonly nonSpeculativeIndex: number;
}

const TIMINGS: readonly PaneTiming[] = ["EARLY", "ON_TIME", "LATE", "UNKNOWN"];

/** The one byte of elements that no trigger has fired: first, last, unknown timing. */
export const NO_FIRING_PANE = 0x0f;
/** The one byte of what a bounded GroupByKey emits: first, last, on time, index 0. */
export const ON_TIME_AND_ONLY_PANE = 0x07;

export function encodePaneInfo(pane: PaneInfo): Uint8Array {
  const base = (pane.isFirst ? 1 : 0) | (pane.isLast ? 2 : 0) | (TIMINGS.indexOf(pane.timing) << 2);
  if ((pane.index === 0 && pane.nonSpeculativeIndex === 0) || pane.timing === "UNKNOWN") return Uint8Array.of(base);
  const oneIndex = pane.index === pane.nonSpeculativeIndex || pane.timing === "EARLY";
  const indices = oneIndex ? [pane.index] : [pane.index, pane.nonSpeculativeIndex];
  const bytes = new Uint8Array(indices.reduce((length, index) => length + varintLength(index), 1));
  bytes[0] = base | ((oneIndex ? 1 : 2) << 4);
  let at = 1;
  for (const index of indices) at = writeVarint(bytes, at, index);
  return bytes;
}

/** @throws WeirError DATA_LOSS. */
export function decodePaneInfo(bytes: Uint8Array, position: number): PaneInfo {
  const byte = bytes[position];
  if (byte === undefined) throw malformed("pane info", bytes, position);
  const timing = TIMINGS[(byte >>> 2) & 3] as PaneTiming;
  const flags = { isFirst: (byte & 1) !== 0, isLast: (byte & 2) !== 0, timing };
  const encoding = byte >>> 4;
  // As in Beam: without indices both are 0, whatever the timing.
  if (encoding === 0) return { ...flags, index: 0, nonSpeculativeIndex: 0 };
  if (encoding > 2) throw malformed("pane info", bytes, position, "has an unknown form");
  const index = readVarint(bytes, position + 1, "pane info");
  if (encoding === 1) return { ...flags, index, nonSpeculativeIndex: timing === "EARLY" ? -1 : index };
  const next = varintEnd(bytes, position + 1, "pane info");
  return { ...flags, index, nonSpeculativeIndex: readVarint(bytes, next, "pane info") };
}
