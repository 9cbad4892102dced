import test from "ava";
import { WeirError } from "../../../base/errors.ts";
import { END_OF_GLOBAL_WINDOW, MAX_TIMESTAMP, MIN_TIMESTAMP, type Timestamp } from "../../../time/timestamp.ts";
import type { FiringTimers } from "../stream-ports.ts";
import {
  clear,
  commitSet,
  decoded,
  element,
  FAMILIES,
  family,
  fireAll,
  LATENESS_MS,
  newTable,
  open,
  set,
  take,
  timer,
  TRANSFORM,
} from "./timers-fixture.ts";

/** Encoded by TimerCoderImpl of the Python SDK 2.77. */
const PYTHON = {
  // Key "k", tag "tag", global window, fires at 5 s, holds at 3 s, PANE_INFO_UNKNOWN.
  set: "016b03746167000000010080000000000013888000000000000bb80f",
  cleared: "016b037461670000000101",
  // Empty key and tag, MAX_TIMESTAMP, holds at GlobalWindow().max_timestamp().
  max: "000000000001008020c49ba5e353f78020c49ba0bcf7f60f",
  // Windows [0, 10) and [5, 15) of seconds; a late pane with two indices.
  twoWindows: "016b00000000028000000000002710904e8000000000003a98904e00800000000000271080000000000027102a0302",
  firstWindow: "016b00000000018000000000002710904e00800000000000271080000000000027102a0302",
  secondWindow: "016b00000000018000000000003a98904e00800000000000271080000000000027102a0302",
};

const hex = (text: string) => Uint8Array.from(Buffer.from(text, "hex"));
const globally = [family("a", { coderId: "globalTimer" })];

function onlyBytes(firing: FiringTimers | undefined): string {
  return (firing?.batches ?? []).map((batch) => Buffer.from(batch.timers).toString("hex")).join("|");
}

test("what the Python SDK sets goes back to it byte for byte, in one window each", (t) => {
  const timers = open(globally);
  const bundle = timers.beginBundle();
  bundle.accept(TRANSFORM, "a", hex(PYTHON.set + PYTHON.max));
  bundle.commit();
  t.is(timers.count, 2);
  t.is(timers.hold, 3000 as Timestamp);
  t.is(onlyBytes(take(timers, 4999)), "");
  const firing = take(timers, 5000);
  t.is(onlyBytes(firing), PYTHON.set);
  firing?.commit();
  // GlobalWindow.max_timestamp() of the Python SDK: a microsecond before the end of the global window.
  t.is(timers.hold, 9223371950454774 as Timestamp);
  t.is(take(timers, END_OF_GLOBAL_WINDOW), undefined);
  t.is(onlyBytes(take(timers, MAX_TIMESTAMP)), PYTHON.max);

  const windowed = open([family("a")]);
  const second = windowed.beginBundle();
  second.accept(TRANSFORM, "a", hex(PYTHON.twoWindows));
  second.commit();
  t.is(windowed.count, 2);
  t.is(onlyBytes(take(windowed, 10_000)), PYTHON.firstWindow + PYTHON.secondWindow);
});

test("a timer that is cleared is gone, also as the Python SDK spells it", (t) => {
  const timers = open(globally);
  const bundle = timers.beginBundle();
  bundle.accept(TRANSFORM, "a", hex(PYTHON.set));
  bundle.commit();
  const clearing = timers.beginBundle();
  clearing.accept(TRANSFORM, "a", hex(PYTHON.cleared));
  t.is(timers.count, 1);
  clearing.commit();
  t.is(timers.count, 0);
  t.is(timers.hold, MAX_TIMESTAMP);
});

test("a bundle's sets and clears apply in order at commit, and never after an abort", (t) => {
  const timers = open();
  const bundle = timers.beginBundle();
  set(bundle, timer("a", 5), timer("b", 7));
  clear(bundle, timer("a", 0), timer("b", 0));
  set(bundle, timer("a", 9));
  t.is(timers.count, 0);
  bundle.commit();
  t.deepEqual(fireAll(timers, 100), [[timer("a", 9)]]);
  const aborted = timers.beginBundle();
  set(aborted, timer("a", 5));
  aborted.abort();
  t.is(timers.count, 0);
});

test("timers fire in order, of a key and window only the earliest at a time", (t) => {
  const timers = open();
  commitSet(
    timers,
    timer("b", 5),
    timer("a", 5),
    timer("a", 5, { tag: "2" }),
    timer("a", 6, { tag: "later" }),
    timer("a", 4, { key: "other" }),
    timer("a", 6, { window: 20 }),
    timer("a", 101, { key: "future" }),
    timer("processing", 3, { hold: 8 }),
    timer("processing", 2, { key: "other", hold: 1 }),
    timer("processing", 51, { key: "future", hold: 9 }),
  );
  t.is(timers.nextProcessingTimeMs, 2);
  t.deepEqual(fireAll(timers, 100, 50), [
    [
      timer("a", 4, { key: "other" }),
      timer("a", 5),
      timer("a", 5, { tag: "2" }),
      timer("b", 5),
      timer("a", 6, { window: 20 }),
    ],
    [timer("a", 6, { tag: "later" }), timer("processing", 2, { key: "other", hold: 1 })],
    [timer("processing", 3, { hold: 8 })],
  ]);
  t.is(timers.nextProcessingTimeMs, 51);
  t.is(timers.hold, 9 as Timestamp);
});

test("runs of one family are one batch, and no more timers are taken than asked for", (t) => {
  const timers = open();
  commitSet(timers, timer("a", 1, { key: "1" }), timer("a", 2, { key: "2" }), timer("b", 3, { key: "3" }));
  commitSet(timers, timer("a", 4, { key: "4" }), timer("a", 5, { key: "5" }));
  const firing = take(timers, 100, 0, 4);
  t.deepEqual(
    firing?.batches.map(({ timerFamilyId }) => timerFamilyId),
    ["a", "b", "a"],
  );
  t.is(firing?.count, 4);
  t.deepEqual(decoded(take(timers, 100)), [timer("a", 5, { key: "5" })]);
});

test("timers that fire hold the watermark until they are committed; released ones fire again", (t) => {
  const timers = open();
  commitSet(timers, timer("a", 5, { hold: 2 }));
  const first = take(timers, 5);
  t.is(timers.hold, 2 as Timestamp);
  t.is(timers.count, 1);
  t.is(take(timers, 5), undefined);
  first?.release();
  const second = take(timers, 5);
  t.deepEqual(decoded(second), [timer("a", 5, { hold: 2 })]);
  const bundle = timers.beginBundle();
  set(bundle, timer("a", 6, { hold: 6 }));
  second?.commit();
  bundle.commit();
  t.is(timers.hold, 6 as Timestamp);
  t.deepEqual(fireAll(timers, 6), [[timer("a", 6)]]);
  t.is(timers.hold, MAX_TIMESTAMP);
});

test("a timer that sets itself again in the past or at the same time fires again in the next round", (t) => {
  const timers = open();
  commitSet(timers, timer("a", 5));
  for (const next of [5, MIN_TIMESTAMP, 5]) {
    const firing = take(timers, 5);
    t.is(firing?.count, 1);
    const bundle = timers.beginBundle();
    set(bundle, timer("a", next));
    firing?.commit();
    bundle.commit();
  }
  t.is(timers.count, 1);
});

test("other timers of a key may clear those that are due after them", (t) => {
  const timers = open();
  commitSet(timers, timer("a", 5), timer("b", 6));
  const firing = take(timers, 100);
  t.deepEqual(decoded(firing), [timer("a", 5)]);
  const bundle = timers.beginBundle();
  clear(bundle, timer("b", 0));
  firing?.commit();
  bundle.commit();
  t.is(take(timers, 100), undefined);
  t.is(timers.count, 0);
});

test("each key and window of main input is told of the window's expiration once, after all other timers", (t) => {
  const timers = open([...FAMILIES, family("Expired", { onWindowExpiration: true })]);
  timers.noteInput(element("k", 10, 20));
  timers.noteInput(element("k", 10));
  timers.noteInput(element("m", 10));
  t.is(timers.count, 3);
  t.is(timers.hold, 9 as Timestamp);
  const last = 9 + LATENESS_MS;
  commitSet(timers, timer("a", last), timer("b", last + 1));
  t.deepEqual(fireAll(timers, last), [[timer("a", last)]]);
  const told = timer("Expired", last, { hold: 9 });
  t.deepEqual(fireAll(timers, last + 1), [[timer("b", last + 1), { ...told, key: "m" }], [told]]);
  t.is(timers.hold, 19 as Timestamp);
});

test("a timer of processing time keeps the job's time that it was set for, of event time what the SDK says", (t) => {
  let offset = 1000;
  const table = newTable();
  const timers = open(FAMILIES, table, { processingTimeOf: (setForMs) => setForMs - offset });
  commitSet(timers, timer("processing", 1005, { hold: 3 }), timer("a", 1005, { hold: 3 }));
  offset = 0;
  t.is(timers.nextProcessingTimeMs, 5);
  t.is(open(FAMILIES, table).nextProcessingTimeMs, 5, "restored");
  t.deepEqual(fireAll(timers, 4, 5), [[timer("processing", 5, { hold: 3 })]]);
});

test("timers of processing time are dropped with their window, those of event time are not", (t) => {
  const timers = open();
  commitSet(timers, timer("processing", 1000, { hold: 3 }), timer("processing", 1000, { hold: 4, window: 100 }));
  commitSet(timers, timer("a", 2000, { hold: 2000 }));
  timers.expireWindows((9 + LATENESS_MS) as Timestamp);
  t.is(timers.count, 3);
  timers.expireWindows((10 + LATENESS_MS) as Timestamp);
  t.is(timers.hold, 4 as Timestamp);
  commitSet(timers, timer("processing", 1000, { hold: 3 }));
  t.is(timers.count, 2);
  t.deepEqual(fireAll(timers, 2000, 1000), [[timer("a", 2000), timer("processing", 1000, { hold: 4, window: 100 })]]);
});

test("the rows are all there is: over the same table the same timers fire", (t) => {
  const table = newTable();
  const families = [...FAMILIES, family("Expired", { onWindowExpiration: true })];
  const before = open(families, table);
  before.noteInput(element("k", 10));
  commitSet(before, timer("a", 5, { tag: "x", hold: 2 }), timer("processing", 7, { hold: 3 }), timer("b", 8));
  take(before, 5);
  const after = open(families, table);
  t.is(after.count, 4);
  t.is(after.hold, 2 as Timestamp);
  t.is(after.nextProcessingTimeMs, 7);
  t.deepEqual(fireAll(after, 1000), [
    [timer("a", 5, { tag: "x", hold: 2 })],
    [timer("b", 8)],
    [timer("Expired", 9 + LATENESS_MS, { hold: 9 })],
  ]);
  t.is([...table.entries()].length, 1);
  after.expireWindows(MAX_TIMESTAMP);
  t.is([...table.entries()].length, 0);
});

test("timers that cannot be read name their transform and family", (t) => {
  const timers = open();
  const bundle = timers.beginBundle();
  const broken = t.throws(() => bundle.accept(TRANSFORM, "a", hex(PYTHON.twoWindows.slice(0, -4))), {
    instanceOf: WeirError,
  });
  t.regex(broken?.message ?? "", /timer family "a" of transform Count\/ParDo/);
  t.is(broken instanceof WeirError && broken.code, "DATA_LOSS");
  t.throws(() => bundle.accept(TRANSFORM, "none", new Uint8Array()), { message: /no timer family "none"/ });
  const table = newTable();
  commitSet(open(FAMILIES, table), timer("b", 1));
  t.throws(() => open([family("a")], table), { message: /ref_ParDo_7 b/ });
});
