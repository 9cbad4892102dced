import test from "ava";
import { StateRequest } from "../../../proto/gen/beam_fn_api.ts";
import { encodeHeader } from "../../coders/windowed-value.ts";
import type { CoderTable } from "../../graph/execution-graph.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import { PagedValues } from "./paged-values.ts";

const coder = (name: string, ...components: string[]) => ({
  urn: `beam:coder:${name}:v1`,
  payload: new Uint8Array(),
  components,
});

const CODERS: CoderTable = {
  bytes: coder("bytes"),
  values: coder("state_backed_iterable", "bytes"),
  group: coder("kv", "bytes", "values"),
  window: coder("global_window"),
  element: coder("windowed_value", "group", "window"),
};

const bytes = (text: string) => Buffer.concat([Uint8Array.of(text.length), Buffer.from(text)]);

function group(key: string, values: readonly string[]): Buffer {
  const count = Buffer.alloc(4);
  count.writeInt32BE(values.length);
  return Buffer.concat([encodeHeader(0 as Timestamp, [new Uint8Array()]), bytes(key), count, ...values.map(bytes)]);
}

const request = (key: Uint8Array, continuationToken: Uint8Array): StateRequest =>
  StateRequest.fromPartial({
    stateKey: { type: { $case: "runner", value: { key } } },
    request: { $case: "get", value: { continuationToken } },
  });

function readAll(paged: PagedValues, key: Uint8Array): Buffer[] {
  const pages: Buffer[] = [];
  let continuation: Uint8Array = new Uint8Array();
  do {
    const reply = paged.answer(request(key, continuation));
    if (reply.kind !== "get") throw new Error("no page");
    pages.push(Buffer.from(reply.data));
    continuation = reply.continuationToken;
  } while (continuation.length > 0);
  return pages;
}

test("a large group becomes a token, its values come in pages of whole values, small groups stay", (t) => {
  const paged = new PagedValues(CODERS, "element", { stateBackedIterableBytes: 100, statePageBytes: 40 });
  const values = Array.from({ length: 30 }, (_, index) => `value ${index}`);
  const small = group("small", ["a", "b"]);
  const large = group("large", values);
  const data = Buffer.concat([small, large, small]);
  const [chunk] = paged.begin([{ data, elementCount: 3 }]);
  const rewritten = Buffer.from(chunk!.data);
  t.is(chunk!.elementCount, 3);
  t.deepEqual(rewritten.subarray(0, small.length), small);
  t.deepEqual(rewritten.subarray(-small.length), small);
  const token = rewritten.subarray(-small.length - 4, -small.length);
  const pages = readAll(paged, token);
  t.true(pages.length > 3);
  t.deepEqual(Buffer.concat(pages), Buffer.concat(values.map(bytes)));
  t.true(pages.every((page) => page.length < 60));

  paged.end();
  t.throws(() => paged.answer(request(token, new Uint8Array())), { code: "NOT_FOUND" });
});

test("chunks without large groups are passed on as they are", (t) => {
  const paged = new PagedValues(CODERS, "element", { stateBackedIterableBytes: 50, statePageBytes: 40 });
  const chunk = { data: Buffer.concat(Array.from({ length: 10 }, () => group("k", ["a"]))), elementCount: 10 };
  t.is(paged.begin([chunk])[0], chunk);
});
