import { tmpdir } from "node:os";
import test from "ava";
import fc from "fast-check";
import type { Chunk } from "../base/chunk.ts";
import type { DatasetId, JobId, TaskAttemptId } from "../base/ids.ts";
import type { CoderTable } from "../graph/execution-graph.ts";
import { type SideInput, type SideInputKind, SideInputStore } from "./side-input-store.ts";

const NEVER = new AbortController().signal;
const NONE = new Uint8Array(0);
const ITERABLE = "beam:side_input:iterable:v1";
const MULTIMAP = "beam:side_input:multimap:v1";
const coder = (urn: string, ...components: string[]) => ({ urn, payload: NONE, components });
const CODERS: CoderTable = {
  text: coder("beam:coder:string_utf8:v1"),
  pair: coder("beam:coder:kv:v1", "text", "text"),
  window: coder("beam:coder:interval_window:v1"),
  values: coder("beam:coder:windowed_value:v1", "text", "window"),
  pairs: coder("beam:coder:windowed_value:v1", "pair", "window"),
};
const REF = { jobId: "job" as JobId, datasetId: "side" as DatasetId, attemptId: "a" as TaskAttemptId, index: 0 };

/** A string in the nested context: a varint length and the bytes. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const prefix = bytes.byteLength < 128 ? [bytes.byteLength] : [(bytes.byteLength & 127) | 128, bytes.byteLength >> 7];
  return Buffer.concat([Buffer.from(prefix), bytes]);
}

/** The interval that ends at `end`, one millisecond long. */
function window(end: number): Buffer {
  const bytes = Buffer.alloc(9);
  bytes.writeBigInt64BE(BigInt(end), 0);
  bytes[8] = 1;
  return bytes;
}

interface Element {
  readonly windows: readonly number[];
  readonly key?: string;
  readonly value: string;
}

function encode({ windows, key, value }: Element): Buffer {
  const count = Buffer.alloc(4);
  count.writeInt32BE(windows.length);
  const parts = [Buffer.alloc(8), count, ...windows.map(window), Buffer.from([0x0f])];
  return Buffer.concat([...parts, ...(key === undefined ? [] : [text(key)]), text(value)]);
}

/** A reader that gives the elements in chunks of three, and counts how often it is asked. */
function readerOf(elements: readonly Element[]) {
  const reader = {
    reads: 0,
    async *read(): AsyncGenerator<Chunk> {
      reader.reads++;
      for (let at = 0; at < elements.length; at += 3) {
        const part = elements.slice(at, at + 3);
        yield { data: Buffer.concat(part.map(encode)), elementCount: part.length };
        await Promise.resolve();
      }
    },
  };
  return reader;
}

async function openSideInput(elements: readonly Element[], accessPatternUrn: string, memoryBytes = 1e8) {
  const store = SideInputStore.open({ directory: tmpdir(), memoryBytes, mapEntryBytes: 1 << 26 });
  const coderId = accessPatternUrn === MULTIMAP ? "pairs" : "values";
  const reader = readerOf(elements);
  const load = { refs: [REF], reader, coders: CODERS, coderId, accessPatternUrn, signal: NEVER };
  return { store, reader, load, sideInput: await store.load(load) };
}

interface Pages {
  readonly data: string;
  readonly pages: Buffer[];
}

async function pagesOf(
  sideInput: SideInput,
  kind: SideInputKind,
  end: number,
  key = "",
  pageBytes = 1e6,
): Promise<Pages> {
  const pages: Buffer[] = [];
  let token: Uint8Array = NONE;
  do {
    const page = await sideInput.page(kind, window(end), key === "" ? NONE : text(key), token, pageBytes);
    pages.push(Buffer.from(page.data));
    token = page.continuationToken;
  } while (token.byteLength > 0);
  return { data: Buffer.concat(pages).toString("latin1"), pages };
}

const joined = (parts: readonly Buffer[]) => Buffer.concat(parts).toString("latin1");

test("an iterable has the values of each window in order, and those in several windows in each", async (t) => {
  const elements = [
    { windows: [1], value: "a" },
    { windows: [1, 2], value: "b" },
    { windows: [2], value: "c" },
    { windows: [1], value: "d" },
  ];
  const { store, sideInput } = await openSideInput(elements, ITERABLE);
  t.is((await pagesOf(sideInput, "iterable", 1)).data, joined(["a", "b", "d"].map(text)));
  t.is((await pagesOf(sideInput, "iterable", 2)).data, joined(["b", "c"].map(text)));
  t.is((await pagesOf(sideInput, "iterable", 3)).data, "");
  t.throws(() => sideInput.page("multimap", window(1), text("a"), NONE, 100), { message: /has no multimap/ });
  await store.close();
});

test("a multimap gives values by key, its keys once each, and both together", async (t) => {
  const elements = [
    { windows: [1], key: "x", value: "1" },
    { windows: [1], key: "y", value: "2" },
    { windows: [1, 2], key: "x", value: "3" },
  ];
  const { store, sideInput } = await openSideInput(elements, MULTIMAP);
  t.is((await pagesOf(sideInput, "multimap", 1, "x")).data, joined(["1", "3"].map(text)));
  t.is((await pagesOf(sideInput, "multimap", 2, "x")).data, joined([text("3")]));
  t.is((await pagesOf(sideInput, "multimap", 2, "y")).data, "");
  t.is((await pagesOf(sideInput, "multimap_keys", 1)).data, joined(["x", "y"].map(text)));
  const one = Buffer.from([0, 0, 0, 1]);
  const two = Buffer.from([0, 0, 0, 2]);
  const both = [text("x"), two, text("1"), text("3"), text("y"), one, text("2")];
  t.is((await pagesOf(sideInput, "multimap_keys_values", 1)).data, joined(both));
  t.throws(() => sideInput.page("iterable", window(1), NONE, NONE, 100), { code: "INVALID_ARGUMENT" });
  t.throws(() => sideInput.page("multimap_keys", window(1), NONE, Uint8Array.of(9), 100), { message: /token/ });
  await store.close();
});

test("pages are cut between elements and hold what was asked for, from memory and from disk", async (t) => {
  const values = Array.from({ length: 20_000 }, (_, at) => `value ${at} ${"x".repeat(at % 200)}`);
  const elements = values.map((value, at) => ({ windows: [at % 2], value }));
  const expected = joined(values.filter((_, at) => at % 2 === 1).map(text));
  for (const memoryBytes of [1e8, 600_000]) {
    const { store, sideInput } = await openSideInput(elements, ITERABLE, memoryBytes);
    if (memoryBytes < 1e6) t.true(store.memoryBytes < 1_700_000);
    const { data, pages } = await pagesOf(sideInput, "iterable", 1, "", 50_000);
    t.true(data === expected);
    t.true(pages.length >= expected.length / 50_000);
    for (const page of pages) {
      t.true(page.byteLength <= 50_000);
      let at = 0;
      while (at < page.byteLength) {
        const low = page[at] ?? 0;
        at += low < 128 ? 1 + low : 2 + (low & 127) + 128 * (page[at + 1] ?? 0);
      }
      t.is(at, page.byteLength);
    }
    await sideInput.close();
    t.is(store.memoryBytes, 0);
  }
});

test("several tasks share one load, and the last one to close drops it", async (t) => {
  const { store, reader, load, sideInput } = await openSideInput([{ windows: [1], value: "a" }], ITERABLE);
  const more = await Promise.all([store.load(load), store.load(load)]);
  t.is(reader.reads, 1);
  await Promise.all([sideInput.close(), sideInput.close(), more[0]?.close()]);
  t.is((await pagesOf(more[1] as SideInput, "iterable", 1)).data, joined([text("a")]));
  t.throws(() => sideInput.page("iterable", window(1), NONE, NONE, 100), { message: /released/ });
  await more[1]?.close();
  t.is(store.memoryBytes, 0);
  const again = await store.load(load);
  t.is(reader.reads, 2);
  await again.close();
});

test("a load that fails or is given up leaves nothing, and one who gives up does not stop the others", async (t) => {
  const store = SideInputStore.open({ directory: tmpdir(), memoryBytes: 1e6, mapEntryBytes: 1 << 26 });
  const go = Promise.withResolvers<void>();
  const reader = {
    async *read(_ref: unknown, signal: AbortSignal): AsyncGenerator<Chunk> {
      yield { data: encode({ windows: [1], value: "a" }), elementCount: 1 };
      await Promise.race([go.promise, new Promise((_, reject) => signal.addEventListener("abort", reject))]);
    },
  };
  const abort = new AbortController();
  const load = { refs: [REF], reader, coders: CODERS, coderId: "values", accessPatternUrn: ITERABLE, signal: NEVER };
  const patient = store.load(load);
  const impatient = store.load({ ...load, signal: abort.signal });
  abort.abort(new Error("cancelled"));
  await t.throwsAsync(impatient, { message: "cancelled" });
  go.resolve();
  await (await patient).close();
  t.is(store.memoryBytes, 0);
  const broken = {
    async *read(): AsyncGenerator<Chunk> {
      yield { data: encode({ windows: [1], value: "a" }), elementCount: 1 };
      await Promise.resolve();
      throw new Error("lost");
    },
  };
  await t.throwsAsync(store.load({ ...load, reader: broken }), { message: "lost" });
  await t.throwsAsync(store.load({ ...load, accessPatternUrn: MULTIMAP }), { message: /needs key-value pairs/ });
  t.is(store.memoryBytes, 0);
  await store.close();
  await t.throwsAsync(store.load(load), { message: /released/ });
});

test("whatever the elements, windows and page size, every lookup is what a naive multimap gives", async (t) => {
  const element = fc.record({
    windows: fc.uniqueArray(fc.nat(3), { minLength: 1, maxLength: 3 }),
    key: fc.constantFrom("a", "b", "cc", "a".repeat(40)),
    value: fc.oneof(fc.string({ maxLength: 5 }), fc.constant("v".repeat(6_000))),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(element, { maxLength: 80 }),
      fc.constantFrom(1, 100_000, 1e8),
      fc.constantFrom(1, 20_000),
      async (elements, memoryBytes, pageBytes) => {
        const { store, sideInput } = await openSideInput(elements, MULTIMAP, memoryBytes);
        try {
          for (let end = 0; end < 4; end++) {
            const model = new Map<string, string[]>();
            for (const { windows, key, value } of elements)
              if (windows.includes(end)) model.set(key, [...(model.get(key) ?? []), value]);
            const keys = await pagesOf(sideInput, "multimap_keys", end, "", pageBytes);
            if (keys.data !== joined([...model.keys()].map(text))) throw new Error("keys differ");
            for (const [key, values] of model) {
              const found = await pagesOf(sideInput, "multimap", end, key, pageBytes);
              if (found.data !== joined(values.map(text))) throw new Error(`values of ${key} differ`);
            }
            const both = [...model].flatMap(([key, values]) => {
              const count = Buffer.alloc(4);
              count.writeInt32BE(values.length);
              return [text(key), count, ...values.map(text)];
            });
            const all = await pagesOf(sideInput, "multimap_keys_values", end, "", pageBytes);
            if (all.data !== joined(both)) throw new Error("keys and values differ");
          }
        } finally {
          await sideInput.close();
        }
        if (store.memoryBytes !== 0) throw new Error(`${store.memoryBytes} bytes are still counted`);
      },
    ),
    { numRuns: 60 },
  );
  t.pass();
});
