import test from "ava";
import { MemoryRows } from "../../../state/state-rows.ts";
import { END_OF_GLOBAL_WINDOW, MAX_TIMESTAMP, type Timestamp } from "../../../time/timestamp.ts";
import {
  chunkOf,
  type Element,
  fixed,
  interval,
  MULTIMAP,
  openSideInputs,
  read,
  readAll,
  request,
  type Shape,
  textsIn,
} from "./side-input-fixture.ts";

const at = (ms: number): Timestamp => ms as Timestamp;
const table = () => new MemoryRows().table("side-inputs");
const tokens = (sideInputs: ReturnType<typeof openSideInputs>): string[] =>
  sideInputs.cacheTokens().map(({ token }) => Buffer.from(token).toString());

test("main input in a window waits until the side input's watermark has passed the end of that window", (t) => {
  const sideInputs = openSideInputs({ main: fixed(5), side: fixed(5) }, table());
  const first = { value: "a", at: 3, windows: [interval(0, 5)] };
  const second = { value: "b", at: 8, windows: [interval(5, 10)] };
  const chunk = chunkOf(first, second, first);
  sideInputs.advance("d1", at(4));
  t.deepEqual(sideInputs.divide(chunk), { ready: undefined, waiting: chunk }, "the maximum timestamp is not the end");
  sideInputs.advance("d1", at(5));
  const { ready, waiting } = sideInputs.divide(chunk);
  t.deepEqual(ready, chunkOf(first, first));
  t.deepEqual(waiting, chunkOf(second));
  t.false(sideInputs.allReady);
  sideInputs.advance("d1", MAX_TIMESTAMP);
  t.true(sideInputs.allReady);
  t.is(sideInputs.divide(chunk).ready, chunk);
});

test("an element in several windows becomes two when only some are ready", (t) => {
  const sideInputs = openSideInputs({ main: fixed(5), side: fixed(5) }, table());
  sideInputs.advance("d1", at(7));
  const windows = [interval(0, 5), interval(5, 10), interval(-5, 0)];
  const { ready, waiting } = sideInputs.divide(chunkOf({ value: "a", at: 3, windows }));
  t.deepEqual(ready, chunkOf({ value: "a", at: 3, windows: [interval(0, 5), interval(-5, 0)] }));
  t.deepEqual(waiting, chunkOf({ value: "a", at: 3, windows: [interval(5, 10)] }));
});

test("the watermark of a side input is the least of its datasets'", (t) => {
  const sideInputs = openSideInputs({ datasets: ["d1", "d2"] }, table());
  const chunk = chunkOf({ value: "a" });
  sideInputs.advance("d1", MAX_TIMESTAMP);
  t.is(sideInputs.divide(chunk).waiting, chunk);
  sideInputs.advance("d2", END_OF_GLOBAL_WINDOW);
  t.is(sideInputs.divide(chunk).waiting, chunk);
  sideInputs.advance("d2", MAX_TIMESTAMP);
  t.true(sideInputs.allReady);
});

test("discarded panes of a window that ends add up, as test_multi_triggered_gbk_side_input of Beam wants", (t) => {
  const shape: Shape = { main: fixed(5), side: fixed(5) };
  const sideInputs = openSideInputs(shape, table());
  const windows = [interval(0, 5)];
  const main = chunkOf({ value: "a1", at: 3, windows });
  sideInputs.add("d1", chunkOf({ value: "100", windows, pane: { timing: "EARLY", index: 0 } }));
  t.is(sideInputs.divide(main).waiting, main);
  sideInputs.add("d1", chunkOf({ value: "0", windows, pane: { timing: "ON_TIME", index: 1, nonSpeculativeIndex: 0 } }));
  sideInputs.advance("d1", MAX_TIMESTAMP);
  t.is(sideInputs.divide(main).ready, main);
  t.deepEqual(read(sideInputs, windows[0]), ["100", "0"]);
});

test("accumulated early panes are dropped for those that are on time, of every key", (t) => {
  const rows = table();
  const shape: Shape = { main: fixed(5), side: { ...fixed(5), accumulationMode: "ACCUMULATING" } };
  const sideInputs = openSideInputs(shape, rows);
  const windows = [interval(0, 5)];
  const pane = (timing: "EARLY" | "ON_TIME", index: number) => ({ timing, index, nonSpeculativeIndex: 0 });
  sideInputs.add("d1", chunkOf({ value: "a1", windows, pane: pane("EARLY", 0) }));
  sideInputs.add("d1", chunkOf({ value: "a12", windows, pane: pane("EARLY", 1) }));
  sideInputs.add("d1", chunkOf({ value: "b1", windows, pane: pane("EARLY", 0) }));
  sideInputs.add(
    "d1",
    chunkOf(
      { value: "a123", windows, pane: pane("ON_TIME", 2) },
      { value: "b1", windows, pane: pane("ON_TIME", 1) },
      { value: "c1", windows, pane: pane("ON_TIME", 0) },
    ),
  );
  sideInputs.advance("d1", at(5));
  t.deepEqual(read(sideInputs, windows[0]), ["a123", "b1", "c1"]);
  t.deepEqual(read(openSideInputs(shape, rows), windows[0]), ["a123", "b1", "c1"]);
});

test("an early pane stays when nothing comes after it: the trigger is finished, or an empty one is not emitted", (t) => {
  const windows = [interval(0, 5)];
  const pane = { timing: "EARLY", index: 0, nonSpeculativeIndex: -1 } as const;
  const accumulating = { ...fixed(5), accumulationMode: "ACCUMULATING" } as const;
  for (const { side, isLast } of [
    { side: accumulating, isLast: true },
    { side: { ...accumulating, onTimeBehavior: "FIRE_IF_NONEMPTY" } as const, isLast: false },
  ]) {
    const sideInputs = openSideInputs({ main: fixed(5), side }, table());
    sideInputs.add("d1", chunkOf({ value: "a1", windows, pane: { ...pane, isLast } }));
    sideInputs.advance("d1", at(5));
    t.deepEqual(read(sideInputs, windows[0]), ["a1"]);
  }
});

test("an updating side input can be read from its first pane on, and the newest pane is what it holds", (t) => {
  const sideInputs = openSideInputs({ updating: true }, table());
  const main = chunkOf({ value: "main" });
  t.is(sideInputs.divide(main).waiting, main);
  const pane = (index: number) => ({ timing: "EARLY" as const, index });
  sideInputs.add("d1", chunkOf({ value: "a", pane: pane(0) }));
  t.true(sideInputs.allReady);
  t.deepEqual(read(sideInputs), ["a"]);
  // A pane of several elements, in two chunks.
  sideInputs.add("d1", chunkOf({ value: "b", pane: pane(1) }, { value: "c", pane: pane(1) }));
  sideInputs.add("d1", chunkOf({ value: "d", pane: pane(1) }));
  t.deepEqual(read(sideInputs), ["b", "c", "d"]);
});

test("where no trigger has fired, elements of the same timestamp are one update", (t) => {
  const sideInputs = openSideInputs({ updating: true }, table());
  sideInputs.add("d1", chunkOf({ value: "a", at: 1 }, { value: "b", at: 1 }));
  sideInputs.add("d1", chunkOf({ value: "c", at: 2 }));
  sideInputs.add("d1", chunkOf({ value: "d", at: 2 }));
  t.deepEqual(read(sideInputs), ["c", "d"]);
});

test("accumulated panes of an updating map replace each key's value", (t) => {
  const rows = table();
  const shape: Shape = {
    updating: true,
    side: { accumulationMode: "ACCUMULATING" },
    element: "pair",
    accessPatternUrn: MULTIMAP,
  };
  const sideInputs = openSideInputs(shape, rows);
  const pair = (key: string, value: string, index: number): Element => ({
    value: [key, value],
    pane: { timing: "EARLY", index },
  });
  sideInputs.add("d1", chunkOf(pair("k1", "1", 0), pair("k1", "12", 1), pair("k2", "5", 0)));
  sideInputs.add("d1", chunkOf(pair("k1", "123", 2), pair("k1", "12", 1)));
  for (const open of [sideInputs, openSideInputs(shape, rows)]) {
    const values = (key: string) => textsIn(readAll(open, request("multimapSideInput", new Uint8Array(0), key)).data);
    t.deepEqual([values("k1"), values("k2"), values("k3")], [["123"], ["5"], []]);
    t.deepEqual(textsIn(readAll(open, request("multimapKeysSideInput", new Uint8Array(0))).data).sort(), ["k1", "k2"]);
  }
});

test("keys and values in bulk, and everything in pages", (t) => {
  const sideInputs = openSideInputs({ element: "pair", accessPatternUrn: MULTIMAP }, table(), { pageBytes: 8 });
  sideInputs.add("d1", chunkOf({ value: ["a", "1"] }, { value: ["b", "2"] }, { value: ["a", "3"] }));
  const bulk = readAll(sideInputs, request("multimapKeysValuesSideInput", new Uint8Array(0)));
  t.is(Buffer.from(bulk.data).toString("latin1"), "\x01a\0\0\0\x02\x011\x013\x01b\0\0\0\x01\x012");
  t.is(bulk.pages, 2);
  const plain = openSideInputs({}, table(), { pageBytes: 10 });
  const values = Array.from({ length: 50 }, (_, index) => `v${index}`);
  for (let start = 0; start < 50; start += 7)
    plain.add("d1", chunkOf(...values.slice(start, start + 7).map((value) => ({ value }))));
  const all = readAll(plain, request("iterableSideInput", new Uint8Array(0)));
  t.deepEqual(textsIn(all.data), values);
  t.true(all.pages >= 19);
});

test("what arrives during a bundle is seen after it, and a restored task has all of it", (t) => {
  const rows = table();
  const sideInputs = openSideInputs({ main: fixed(5), side: fixed(5) }, rows);
  const window = interval(0, 5);
  const main = chunkOf({ value: "m", windows: [window] });
  sideInputs.add("d1", chunkOf({ value: "a", windows: [window] }));
  const thaw = sideInputs.freeze();
  sideInputs.add("d1", chunkOf({ value: "b", windows: [window] }));
  sideInputs.advance("d1", at(5));
  t.deepEqual(read(sideInputs, window), ["a"]);
  t.is(sideInputs.divide(main).waiting, main);
  thaw();
  t.deepEqual(read(sideInputs, window), ["a", "b"]);
  t.is(sideInputs.divide(main).ready, main);
  const restored = openSideInputs({ main: fixed(5), side: fixed(5) }, rows);
  t.deepEqual(read(restored, window), ["a", "b"]);
  t.is(restored.divide(main).ready, main);
});

test("as much as may be held beside the rows while a bundle is open is told, and is none when it ends", (t) => {
  const chunk = chunkOf({ value: "aaaaaa" });
  const sideInputs = openSideInputs({}, table(), { maxArrivedBytes: 2 * chunk.data.length });
  for (let count = 0; count < 5; count++) sideInputs.add("d1", chunk);
  t.false(sideInputs.isFull, "rows are no concern of it");
  const thaw = sideInputs.freeze();
  sideInputs.add("d1", chunk);
  t.false(sideInputs.isFull);
  sideInputs.add("d1", chunk);
  t.true(sideInputs.isFull);
  thaw();
  t.false(sideInputs.isFull);
  sideInputs.advance("d1", MAX_TIMESTAMP);
  t.is(read(sideInputs).length, 7);
});

test("the cache token changes only when what was read changes", (t) => {
  const sideInputs = openSideInputs({ main: fixed(5), side: fixed(5) }, table());
  const [first, second] = [interval(0, 5), interval(5, 10)];
  sideInputs.add("d1", chunkOf({ value: "a", windows: [first] }));
  const initial = tokens(sideInputs);
  read(sideInputs, first);
  sideInputs.add("d1", chunkOf({ value: "b", windows: [second] }));
  t.deepEqual(tokens(sideInputs), initial);
  sideInputs.add("d1", chunkOf({ value: "late", windows: [first] }));
  const changed = tokens(sideInputs);
  t.notDeepEqual(changed, initial);
  sideInputs.add("d1", chunkOf({ value: "later", windows: [first] }));
  t.deepEqual(tokens(sideInputs), changed, "nobody has read it with this token");
});

test("windows go when neither main input nor side input reaches them any more", (t) => {
  const rows = table();
  const sideInputs = openSideInputs({ main: { ...fixed(5), allowedLatenessMs: 3 }, side: fixed(10) }, rows);
  const [first, second] = [interval(0, 10), interval(10, 20)];
  sideInputs.add("d1", chunkOf({ value: "a", windows: [first] }, { value: "b", windows: [second] }));
  sideInputs.advance("d1", at(9));
  sideInputs.expire(at(100));
  t.deepEqual(read(sideInputs, first), ["a"], "the side input is not there yet");
  sideInputs.advance("d1", at(30));
  sideInputs.expire(at(12));
  t.deepEqual(read(sideInputs, first), ["a"], "late main input can still come");
  sideInputs.expire(at(13));
  t.deepEqual([read(sideInputs, first), read(sideInputs, second)], [[], ["b"]]);
  sideInputs.advance("d1", MAX_TIMESTAMP);
  sideInputs.expire(MAX_TIMESTAMP);
  t.is([...rows.entries()].length, 1, "its watermark");
});
