/**
 * Cuts main input by whether the windows of its elements are ready. Order is kept within each part; an element in
 * several windows of which only some are ready becomes two.
 */
import type { Chunk } from "../../../base/chunk.ts";
import { newHeader, type WindowedValueLayout } from "../../../coders/windowed-value.ts";

const COUNT_START = 8;
const WINDOWS_START = 12;

export interface DividedChunk {
  readonly ready: Chunk | undefined;
  readonly waiting: Chunk | undefined;
}

/** @param isReady of a window, encoded, as a binary string */
export function divideByWindow(
  chunk: Chunk,
  layout: WindowedValueLayout,
  isReady: (window: string) => boolean,
): DividedChunk {
  const bytes = chunk.data;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const known = new Map<string, boolean>();
  const isWindowReady = (start: number, end: number): boolean => {
    const window = text.toString("latin1", start, end);
    let result = known.get(window);
    if (result === undefined) known.set(window, (result = isReady(window)));
    return result;
  };
  const ready = new Part(bytes);
  const waiting = new Part(bytes);
  const header = newHeader();
  for (let at = 0; at < bytes.length;) {
    layout.readHeader(bytes, at, header);
    const end = layout.valueSkip(bytes, header.valueStart);
    const bounds = [header.windowsStart];
    for (let left = header.windowCount, position = header.windowsStart; left > 0; left--)
      bounds.push((position = layout.windowSkip(bytes, position)));
    const readyWindows: [number, number][] = [];
    const waitingWindows: [number, number][] = [];
    for (let index = 0; index < header.windowCount; index++) {
      const range: [number, number] = [bounds[index] as number, bounds[index + 1] as number];
      (isWindowReady(...range) ? readyWindows : waitingWindows).push(range);
    }
    if (waitingWindows.length === 0) ready.range(at, end);
    else if (readyWindows.length === 0) waiting.range(at, end);
    else {
      ready.bytes(inWindows(bytes, at, end, header.windowsEnd, readyWindows));
      waiting.bytes(inWindows(bytes, at, end, header.windowsEnd, waitingWindows));
    }
    at = end;
  }
  if (waiting.count === 0) return { ready: chunk, waiting: undefined };
  if (ready.count === 0) return { ready: undefined, waiting: chunk };
  return { ready: ready.chunk(), waiting: waiting.chunk() };
}

/** The element with these windows only. */
function inWindows(
  bytes: Uint8Array,
  start: number,
  end: number,
  windowsEnd: number,
  windows: readonly (readonly [number, number])[],
): Uint8Array {
  const count = Buffer.alloc(WINDOWS_START - COUNT_START);
  count.writeInt32BE(windows.length);
  return Buffer.concat([
    bytes.subarray(start, start + COUNT_START),
    count,
    ...windows.map(([from, to]) => bytes.subarray(from, to)),
    bytes.subarray(windowsEnd, end),
  ]);
}

/** Elements of a chunk; those that follow each other are copied at once. */
class Part {
  readonly #bytes: Uint8Array;
  readonly #parts: Uint8Array[] = [];
  #start = 0;
  #end = 0;
  count = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  range(start: number, end: number): void {
    this.count++;
    if (start !== this.#end) {
      this.#flush();
      this.#start = start;
    }
    this.#end = end;
  }

  bytes(element: Uint8Array): void {
    this.count++;
    this.#flush();
    this.#parts.push(element);
  }

  #flush(): void {
    if (this.#end > this.#start) this.#parts.push(this.#bytes.subarray(this.#start, this.#end));
    this.#start = this.#end;
  }

  chunk(): Chunk {
    this.#flush();
    return { data: Buffer.concat(this.#parts), elementCount: this.count };
  }
}
