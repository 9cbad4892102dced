import test from "ava";
import { END_OF_GLOBAL_WINDOW, MAX_TIMESTAMP } from "../../../time/timestamp.ts";
import { encodeExactMs, fixed, graphOf, interval, type Shape, sliding } from "./side-input-fixture.ts";
import { type MapWindows, WindowMapping } from "./window-mapping.ts";

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

function mappingOf(shape: Shape, mapWindows?: MapWindows, onMapped: (failure?: unknown) => void = () => undefined) {
  const { graph, stage } = graphOf(shape);
  const [sideInput] = stage.sideInputs;
  if (sideInput === undefined) throw new Error("no side input");
  return new WindowMapping(graph, sideInput, mapWindows, onMapped);
}

test("the global window is what every window maps to", (t) => {
  const mapping = mappingOf({ main: fixed(5) });
  t.deepEqual(mapping.of(latin1(interval(0, 5))), { window: "", maxTimestamp: END_OF_GLOBAL_WINDOW });
});

test("fixed windows: the one with the maximum timestamp of the main window", (t) => {
  const mapping = mappingOf({ main: fixed(5), side: fixed(10, 2) });
  const map = (start: number, end: number) => mapping.of(latin1(interval(start, end)))?.window;
  t.is(map(0, 5), latin1(interval(2, 12)));
  t.is(map(5, 12), latin1(interval(2, 12)));
  t.is(map(5, 13), latin1(interval(12, 22)));
  t.is(map(-5, 0), latin1(interval(-8, 2)));
});

test("sliding windows: the earliest with the maximum timestamp of the main window", (t) => {
  const mapping = mappingOf({ main: fixed(5), side: sliding(10, 3) });
  for (let end = -30; end < 30; end++) {
    const starts = Array.from({ length: 41 }, (_, index) => (index - 20) * 3);
    const start = starts.find((candidate) => candidate <= end - 1 && end - 1 < candidate + 10) as number;
    t.deepEqual(mapping.of(latin1(interval(end - 5, end)))?.window, latin1(interval(start, start + 10)), `${end}`);
  }
});

test("the global window of main input maps to the fixed window at the end of time, exactly", (t) => {
  const mapping = mappingOf({ side: fixed(1000) });
  const mapped = mapping.of("");
  t.is(
    Buffer.from(mapped?.window ?? "", "latin1")
      .subarray(0, 8)
      .toString("hex"),
    encodeExactMs(9223371950455000n),
  );
});

const CUSTOM = { windowFnUrn: "custom", windowCoderId: "custom" };
const WINDOW_MAPPING = { urn: "mapping", payload: new Uint8Array() };

test("windows of a custom WindowFn are mapped by the harness, each once", async (t) => {
  const asked: string[] = [];
  const answer = Promise.withResolvers<readonly Uint8Array[]>();
  const mapped = Promise.withResolvers<unknown>();
  const mapWindows: MapWindows = (_sideInput, windows) => {
    asked.push(...windows.map(latin1));
    return answer.promise;
  };
  const mapping = mappingOf(
    { main: fixed(5), side: CUSTOM, windowMapping: WINDOW_MAPPING },
    mapWindows,
    mapped.resolve,
  );
  const main = latin1(interval(0, 5));
  t.is(mapping.of(main), undefined);
  t.is(mapping.of(main), undefined);
  const window = Buffer.concat([Buffer.from(encodeExactMs(7n), "hex"), Uint8Array.of(1, 65)]);
  answer.resolve([window]);
  t.is(await mapped.promise, undefined);
  t.deepEqual(mapping.of(main), { window: latin1(window), maxTimestamp: 7 });
  t.deepEqual(asked, [main]);
  t.false(mapping.isByEnd);
});

test("a mapping that fails is told, and asked again", async (t) => {
  const failure = new Error("no such window");
  let failed = Promise.withResolvers<unknown>();
  const mapping = mappingOf(
    { main: fixed(5), side: CUSTOM, windowMapping: WINDOW_MAPPING },
    () => Promise.reject(failure),
    (reason) => failed.resolve(reason),
  );
  for (let attempt = 0; attempt < 2; attempt++) {
    failed = Promise.withResolvers();
    t.is(mapping.of(""), undefined);
    t.is(await failed.promise, failure);
  }
});

test("what the runner cannot map waits for the end of the side input", (t) => {
  const mapping = mappingOf({ main: fixed(5), side: CUSTOM, windowMapping: WINDOW_MAPPING });
  t.deepEqual(mapping.of(latin1(interval(0, 5))), { window: undefined, maxTimestamp: MAX_TIMESTAMP });
});
