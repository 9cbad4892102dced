/**
 * The building blocks of skip functions: where a length-prefixed run of bytes, an iterable, a pane info ends.
 *
 * Invariant: no skip function returns a position past the end of the bytes, or loops longer than the bytes are long.
 * `what` names the coder in the message of an error.
 */
import { malformed, readInt32, readVarint, varintEnd } from "./byte-reader.ts";

/**
 * The position after the element that begins at `position`.
 * @throws WeirError DATA_LOSS when the bytes end within the element or are malformed, naming the coder.
 */
export type Skip = (bytes: Uint8Array, position: number) => number;

/** A length as a varint, then as many bytes. */
export function skipLengthPrefixed(what: string): Skip {
  return (bytes, position) => {
    let start = position + 1;
    let length = position < bytes.length ? (bytes[position] as number) : 128;
    if (length >= 128) {
      const second = start < bytes.length ? (bytes[start] as number) : 128;
      // Lengths below 16 KiB are two bytes: spare them the loops.
      length = second < 128 ? (length & 0x7f) | (second << 7) : readVarint(bytes, position, what);
      start = second < 128 ? position + 2 : varintEnd(bytes, position, what);
    }
    const end = start + length;
    if (end > bytes.length) throw malformed(what, bytes, position);
    return end;
  };
}

/** As many bytes, whatever they are. */
export function skipFixed(byteLength: number, what: string): Skip {
  return (bytes, position) => {
    const end = position + byteLength;
    if (end > bytes.length) throw malformed(what, bytes, position);
    return end;
  };
}

export function skipBool(what: string): Skip {
  return (bytes, position) => {
    if (position >= bytes.length) throw malformed(what, bytes, position);
    if ((bytes[position] as number) > 1) throw malformed(what, bytes, position, "is neither 0 nor 1");
    return position + 1;
  };
}

export function skipPair(first: Skip, second: Skip): Skip {
  return (bytes, position) => second(bytes, first(bytes, position));
}

export function skipNullable(value: Skip, what: string): Skip {
  const flag = skipBool(what);
  return (bytes, position) => {
    const start = flag(bytes, position);
    return bytes[position] === 0 ? start : value(bytes, start);
  };
}

export function skipItems(item: Skip, count: number, bytes: Uint8Array, position: number): number {
  let at = position;
  for (let index = 0; index < count; index++) {
    const next = item(bytes, at);
    // What takes no bytes once (a global window) never does: a count of billions of them costs nothing.
    if (next === at) return at;
    at = next;
  }
  return at;
}

/** A count of four bytes and the items; or -1 and runs, each with a varint count, until a count of 0 (or -1: a token). */
export function skipIterable(item: Skip, stateBacked: boolean, what: string): Skip {
  const token = skipLengthPrefixed(what);
  return (bytes, position) => {
    const count = readInt32(bytes, position, what);
    let at = position + 4;
    if (count >= 0) return skipItems(item, count, bytes, at);
    if (count !== -1) throw malformed(what, bytes, position, "has a negative count");
    for (;;) {
      const run = readVarint(bytes, at, what);
      const start = at;
      at = varintEnd(bytes, at, what);
      if (run === 0) return at;
      if (at - start === 10) {
        // The ten bytes of -1: what follows is behind a state token.
        if (!stateBacked) throw malformed(what, bytes, start, "has a negative count");
        return token(bytes, at);
      }
      at = skipItems(item, run, bytes, at);
    }
  };
}

/**
 * Pane info: the upper half of its first byte tells whether nothing (0), the index as a varint (1), or the index and
 * the non-speculative index (2) follow.
 */
export function paneEnd(bytes: Uint8Array, position: number, what: string): number {
  if (position >= bytes.length) throw malformed(what, bytes, position);
  const encoding = (bytes[position] as number) >>> 4;
  if (encoding === 0) return position + 1;
  if (encoding > 2) throw malformed(what, bytes, position, "has a pane info of an unknown form");
  const afterIndex = varintEnd(bytes, position + 1, what);
  return encoding === 1 ? afterIndex : varintEnd(bytes, afterIndex, what);
}
