import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { WeirError } from "../../base/errors.ts";
import { SqliteRows } from "../../state/keyed/sqlite-rows.ts";
import { MemoryRows } from "../../state/state-rows.ts";
import { END_OF_GLOBAL_WINDOW, MAX_TIMESTAMP, type Timestamp, writeTimestamp } from "../../time/timestamp.ts";
import {
  bytes,
  inBundle,
  interval,
  latin1,
  nested,
  NOTHING,
  open,
  type Place,
  rowCount,
  Sdk,
  varint,
} from "./user-state-fixture.ts";
import type { UserStateBundle } from "./stream-ports.ts";
import type { KeyedUserState } from "./user-state.ts";

test("a bundle reads its own writes; only a commit makes them the next bundle's", (t) => {
  const state = open();
  inBundle(state, (sdk) => {
    t.is(sdk.read("bagUserState"), "");
    sdk.append("bagUserState", {}, "ab");
    sdk.append("bagUserState", {}, "c");
    t.is(sdk.read("bagUserState"), "abc");
    t.is(sdk.read("bagUserState", { key: "other" }), "");
  });
  inBundle(
    state,
    (sdk) => {
      sdk.clear("bagUserState", {});
      sdk.append("bagUserState", {}, "z");
      t.is(sdk.read("bagUserState"), "z");
    },
    "abort",
  );
  t.is(
    inBundle(state, (sdk) => sdk.read("bagUserState")),
    "abc",
  );
});

test("cells of empty keys, of other windows and of other states are apart", (t) => {
  const state = open({ windows: "interval" });
  const places: Place[] = [];
  for (const key of ["", "a", "\x01a"])
    for (const window of [interval(0, 10), interval(0, 20)]) places.push({ key, window });
  inBundle(state, (sdk) => {
    places.forEach((place, index) => sdk.append("bagUserState", place, `value ${index}`));
    t.is(sdk.read("bagUserState", { state: "opaque", key: "", window: interval(0, 10) }), "");
  });
  inBundle(state, (sdk) => places.forEach((place, index) => t.is(sdk.read("bagUserState", place), `value ${index}`)));
});

test("a large bag is read in pages of whole appends, and a token stays good over bundles that append", (t) => {
  const rows = new MemoryRows();
  const state = open({ rows, pageBytes: 64 });
  const appends = Array.from({ length: 100 }, (_, index) =>
    String.fromCharCode(33 + (index % 90)).repeat(1 + (index % 40)),
  );
  for (let first = 0; first < 90; first += 10)
    inBundle(state, (sdk) => appends.slice(first, first + 10).forEach((data) => sdk.append("bagUserState", {}, data)));
  const token = inBundle(state, (sdk) => {
    const pages = sdk.pages("bagUserState");
    t.is(pages.join(""), appends.slice(0, 90).join(""));
    t.true(pages.length > 10);
    for (const page of pages) t.true(page.length <= 64 && page.length > 0);
    return sdk.page("bagUserState", {}, NOTHING);
  });
  inBundle(state, (sdk) => appends.slice(90).forEach((data) => sdk.append("bagUserState", {}, data)));
  const restored = open({ rows, pageBytes: 64 });
  inBundle(restored, (sdk) => {
    let all = latin1(token.data);
    for (let next = token.continuationToken; next.length > 0;) {
      const page = sdk.page("bagUserState", {}, next);
      all += latin1(page.data);
      next = page.continuationToken;
    }
    t.is(all, appends.join(""));
    sdk.clear("bagUserState", {});
    t.is(sdk.read("bagUserState"), "");
  });
  t.is(rowCount(rows), 0);
});

test("a bag of many megabytes is never held as a whole: its rows and its pages stay small", (t) => {
  const rows = new MemoryRows();
  const state = open({ rows, pageBytes: 1024 * 1024 });
  const data = "x".repeat(10_000);
  for (let bundle = 0; bundle < 20; bundle++)
    inBundle(state, (sdk) => {
      for (let append = 0; append < 100; append++) sdk.append("bagUserState", {}, data);
    });
  const longest = Math.max(...[...rows.table("user-state/t/bag").entries()].map(([, value]) => value.length));
  t.true(longest <= 32 * 1024);
  const pages = inBundle(state, (sdk) => sdk.pages("bagUserState"));
  t.is(
    pages.reduce((sum, page) => sum + page.length, 0),
    20_000_000,
  );
  t.true(Math.max(...pages.map((page) => page.length)) <= 1024 * 1024);
  t.true(pages.length <= 21);
});

test("one append larger than a page is one page", (t) => {
  const state = open({ pageBytes: 10 });
  inBundle(state, (sdk) => {
    sdk.append("bagUserState", {}, "a".repeat(30));
    sdk.append("bagUserState", {}, "b".repeat(8));
    t.deepEqual(sdk.pages("bagUserState"), ["a".repeat(30), "b".repeat(8)]);
  });
});

test("a multimap has its keys, its values and its entries, and loses what is removed", (t) => {
  const rows = new MemoryRows();
  const state = open({ rows });
  const map = { state: "map" };
  inBundle(state, (sdk) => {
    sdk.append("multimapUserState", { ...map, mapKey: nested("a") }, nested("1") + nested("2"));
    sdk.append("multimapUserState", { ...map, mapKey: nested("b") }, nested("3"));
    sdk.append("multimapUserState", { ...map, mapKey: "" }, "");
  });
  inBundle(state, (sdk) => {
    t.is(sdk.read("multimapKeysUserState", map), nested("a") + nested("b"));
    t.is(sdk.read("multimapUserState", { ...map, mapKey: nested("a") }), nested("1") + nested("2"));
    t.is(sdk.read("multimapUserState", { ...map, mapKey: nested("c") }), "");
    const entry = (key: string, ...values: string[]) =>
      key + String.fromCharCode(0, 0, 0, values.length) + values.map(nested).join("");
    const entries = entry(nested("a"), "1", "2") + entry(nested("b"), "3") + entry("");
    t.is(sdk.read("multimapEntriesUserState", map), entries);
    sdk.clear("multimapUserState", { ...map, mapKey: nested("b") });
    sdk.clear("multimapUserState", { ...map, mapKey: "" });
    t.is(sdk.read("multimapKeysUserState", map), nested("a"));
    sdk.append("multimapUserState", { ...map, mapKey: nested("b") }, nested("4"));
    t.is(sdk.read("multimapUserState", { ...map, mapKey: nested("b") }), nested("4"));
    sdk.clear("multimapKeysUserState", map);
    t.is(sdk.read("multimapEntriesUserState", map), "");
  });
  t.is(rowCount(rows), 0);
});

test("entries whose values' coder the runner does not know are refused, their keys and values are not", (t) => {
  const state = open();
  inBundle(state, (sdk) => {
    sdk.append("multimapUserState", { state: "opaque", mapKey: "m" }, "v");
    t.is(sdk.read("multimapUserState", { state: "opaque", mapKey: "m" }), "v");
    const error = t.throws(() => sdk.read("multimapEntriesUserState", { state: "opaque" }), { instanceOf: WeirError });
    t.is(error.code, "UNIMPLEMENTED");
  });
});

test("what does not exist is refused by name", (t) => {
  const state = open();
  inBundle(state, (sdk) => {
    t.throws(() => sdk.read("bagUserState", { state: "no such state" }), { message: /no such state/ });
    t.throws(() => sdk.append("multimapKeysUserState", { state: "map" }, "x"), { message: /multimapKeysUserState/ });
    t.throws(() => sdk.page("bagUserState", {}, bytes("odd")), { message: /continuation token/ });
    t.throws(() => sdk.append("orderedListUserState", { state: "list" }, "\x80"), { instanceOf: WeirError });
  });
});

test("the state of windows that the watermark has passed is dropped, after a restore too", (t) => {
  for (const restore of [false, true]) {
    const rows = new MemoryRows();
    let state = open({ rows, windows: "interval", allowedLatenessMs: 5 });
    const window = interval(0, 10);
    const kinds = (sdk: Sdk, at: Uint8Array) => {
      sdk.append("bagUserState", { window: at }, "x".repeat(100));
      sdk.append("bagUserState", { window: at }, "x".repeat(100));
      sdk.append("orderedListUserState", { state: "list", window: at }, varint(1n) + nested("x"));
      sdk.append("multimapUserState", { state: "map", window: at, mapKey: "m" }, nested("x"));
    };
    inBundle(state, (sdk) => [window, interval(0, 1000)].forEach((at) => kinds(sdk, at)));
    const before = rowCount(rows);
    if (restore) state = open({ rows, windows: "interval", allowedLatenessMs: 5 });
    state.expireWindows(14 as Timestamp);
    t.is(rowCount(rows), before);
    state.expireWindows(15 as Timestamp);
    t.is(rowCount(rows), before / 2);
    inBundle(state, (sdk) => {
      t.is(sdk.read("bagUserState", { window }), "");
      t.is(sdk.read("bagUserState", { window: interval(0, 1000) }), "x".repeat(200));
      sdk.clear("bagUserState", { window: interval(0, 1000) });
    });
    state.expireWindows(END_OF_GLOBAL_WINDOW);
    t.is(rowCount(rows), 0);
  }
});

test("a custom window's encoding begins with the maximum timestamp that expires it", (t) => {
  const rows = new MemoryRows();
  const state = open({ rows, windows: "custom" });
  const window = new Uint8Array(11);
  writeTimestamp(window, 0, 100 as Timestamp);
  inBundle(state, (sdk) => sdk.append("bagUserState", { window }, "x"));
  state.expireWindows(100 as Timestamp);
  t.is(rowCount(rows), 1);
  state.expireWindows(101 as Timestamp);
  t.is(rowCount(rows), 0);
});

test("state of the global window does not expire", (t) => {
  const state = open();
  inBundle(state, (sdk) => sdk.append("bagUserState", {}, "x"));
  state.expireWindows(MAX_TIMESTAMP);
  t.is(
    inBundle(state, (sdk) => sdk.read("bagUserState")),
    "x",
  );
});

test("the cache token stays over commits and changes with an abort, another harness and another attempt", (t) => {
  const rows = new MemoryRows();
  const state = open({ rows, prefix: "attempt 1" });
  const token = (of: KeyedUserState) => latin1(of.cacheTokens()[0]?.token ?? NOTHING);
  const first = token(state);
  const tokens = [first];
  inBundle(state, (sdk) => sdk.append("bagUserState", {}, "x"));
  t.is(token(state), first);
  inBundle(state, (sdk) => sdk.read("bagUserState"), "abort");
  tokens.push(token(state));
  state.harnessChanged();
  tokens.push(token(state), token(open({ rows, prefix: "attempt 2" })));
  t.is(new Set(tokens).size, 4);
  t.is(state.cacheTokens().length, 1);
  t.is(state.cacheTokens()[0]?.type?.$case, "userState");
});

test("a bundle that writes more than it may hold in memory has the rest on disk, and nothing of it when it ends", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "weir-user-state-"));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const memoryBytes = 64 * 1024;
  let opened: SqliteRows | undefined = undefined as SqliteRows | undefined;
  const scratch = {
    memoryBytes,
    open: () => {
      const rows = (opened = new SqliteRows({ directory, label: "writes", memoryBytes, tracksChanges: false }));
      // Awaited below instead: replies come at once.
      return { table: (name: string) => rows.table(name), relief: () => undefined, close: () => rows.close() };
    },
  };
  const rows = new MemoryRows();
  const state = open({ rows, scratch });
  const value = (index: number) => String(index).padStart(1_000, ".");
  const write = async (bundle: UserStateBundle) => {
    const sdk = new Sdk(bundle);
    for (let index = 0; index < 1_000; index++) {
      sdk.append("bagUserState", { key: `${index}` }, value(index));
      await opened?.relief();
    }
    return sdk;
  };
  const aborted = state.beginBundle();
  await write(aborted);
  aborted.abort();
  t.deepEqual([readdirSync(directory), rowCount(rows)], [[], 0]);
  opened = undefined;
  const bundle = state.beginBundle();
  const sdk = await write(bundle);
  t.is(readdirSync(directory).length, 1);
  // As rows are counted, a value costs more than its bytes.
  t.true(opened!.usedBytes <= memoryBytes * 1.25);
  t.is(sdk.read("bagUserState", { key: "7" }), value(7));
  sdk.clear("bagUserState", { key: "8" });
  t.is(sdk.read("bagUserState", { key: "8" }), "");
  bundle.commit();
  t.deepEqual(readdirSync(directory), []);
  // A head and a chunk each.
  t.is(rowCount(rows), 2 * 999);
  t.is(
    inBundle(state, (next) => next.read("bagUserState", { key: "999" })),
    value(999),
  );
});
