import test from "ava";
import fc from "fast-check";
import { decodeIntervalWindow } from "../../../coders/interval-window.ts";
import { newHeader, WindowedValueLayout } from "../../../coders/windowed-value.ts";
import type { Chunk } from "../../../base/chunk.ts";
import { divideByWindow } from "./divide-by-window.ts";
import { chunkOf, graphOf, interval, textsIn } from "./side-input-fixture.ts";

const { graph } = graphOf({});
const layout = new WindowedValueLayout(graph.coders, "text-interval");

/** Every element once for each of its windows. */
function exploded(chunk: Chunk | undefined): string[] {
  const all: string[] = [];
  if (chunk === undefined) return all;
  const header = newHeader();
  let elements = 0;
  for (let at = 0; at < chunk.data.length; elements++) {
    layout.readHeader(chunk.data, at, header);
    const end = layout.skip(chunk.data, at);
    const value = textsIn(chunk.data.subarray(header.valueStart, end)).join();
    for (let position = header.windowsStart; position < header.windowsEnd;) {
      all.push(`${value}@${decodeIntervalWindow(chunk.data, position).start}`);
      position = layout.windowSkip(chunk.data, position);
    }
    at = end;
  }
  if (elements !== chunk.elementCount) throw new Error(`${chunk.elementCount} elements are ${elements}`);
  return all;
}

test("each element and window is in one part, in order, by whether the window is ready", (t) => {
  const starts = fc.uniqueArray(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(fc.array(starts, { maxLength: 8 }), fc.integer({ min: 0, max: 63 }), (elements, readyMask) => {
      const chunk = chunkOf(
        ...elements.map((windows, index) => ({
          value: `v${index}`,
          at: index,
          windows: windows.map((start) => interval(start, start + 1)),
        })),
      );
      const isReady = (start: number): boolean => ((readyMask >> start) & 1) === 1;
      const { ready, waiting } = divideByWindow(chunk, layout, (window) =>
        isReady(decodeIntervalWindow(Buffer.from(window, "latin1"), 0).start),
      );
      const expected = exploded(chunk);
      const startOf = (pair: string): number => Number(pair.slice(pair.indexOf("@") + 1));
      t.deepEqual(
        exploded(ready),
        expected.filter((pair) => isReady(startOf(pair))),
      );
      t.deepEqual(
        exploded(waiting),
        expected.filter((pair) => !isReady(startOf(pair))),
      );
    }),
  );
});
