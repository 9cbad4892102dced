import { readFileSync } from "node:fs";
import test from "ava";
import fc from "fast-check";
import { parseAllDocuments } from "yaml";
import { WeirError } from "../base/errors.ts";
import type { CoderSpec, CoderTable } from "../graph/execution-graph.ts";
import { compileSkip } from "./element-boundary.ts";

interface YamlCoder {
  readonly urn: string;
  readonly payload?: string;
  readonly components?: readonly YamlCoder[];
}

interface Section {
  readonly coder: YamlCoder;
  readonly nested?: boolean;
  readonly examples: Readonly<Record<string, unknown>>;
}

const NO_PAYLOAD = new Uint8Array();

function latin1(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "latin1"));
}

const golden = readFileSync(new URL("testdata/standard_coders.yaml", import.meta.url), "utf8");
const sections = parseAllDocuments(golden).map((document) => document.toJS() as Section);

function tableOf(coder: YamlCoder, id: string, into: Record<string, CoderSpec>): CoderTable {
  const components = (coder.components ?? []).map((component, index) => {
    tableOf(component, `${id}.${index}`, into);
    return `${id}.${index}`;
  });
  into[id] = { urn: coder.urn, payload: latin1(coder.payload ?? ""), components };
  return into;
}

function coders(...specs: readonly (readonly [string, string, ...string[]])[]): CoderTable {
  const entries = specs.map(([id, urn, ...components]): [string, CoderSpec] => [
    id,
    { urn: `beam:coder:${urn}:v1`, payload: NO_PAYLOAD, components },
  ]);
  return Object.fromEntries(entries);
}

test("Beam's golden encodings end where they end, alone and within other bytes", (t) => {
  let examples = 0;
  for (const { coder, nested, examples: encodings } of sections) {
    // The outer context leaves out lengths: nothing on a Data stream is encoded so.
    if (nested === false) continue;
    const skip = compileSkip(tableOf(coder, "coder", {}), "coder");
    for (const encoding of Object.keys(encodings)) {
      const bytes = latin1(encoding);
      const within = Buffer.concat([Uint8Array.of(0xff, 0x80), bytes, Uint8Array.of(0x81, 0x01)]);
      t.is(skip(bytes, 0), bytes.length, `${coder.urn} ${JSON.stringify(encoding)}`);
      t.is(skip(within, 2), bytes.length + 2, `${coder.urn} ${JSON.stringify(encoding)} within`);
      examples++;
    }
  }
  t.true(examples > 80, `only ${examples} examples were read`);
});

test("every truncation of a golden encoding is refused, naming the coder", (t) => {
  let cuts = 0;
  for (const { coder, nested, examples: encodings } of sections) {
    if (nested === false) continue;
    const skip = compileSkip(tableOf(coder, "coder", {}), "coder");
    for (const encoding of Object.keys(encodings)) {
      const bytes = latin1(encoding);
      for (let length = 0; length < bytes.length; length++) {
        const error = t.throws(() => skip(bytes.subarray(0, length), 0), { instanceOf: WeirError });
        t.is(error.code, "DATA_LOSS");
        t.regex(error.message, /"coder/);
        cuts++;
      }
    }
  }
  t.true(cuts > 500);
});

test("a coder that the runner does not know is refused by its URN, also as a component", (t) => {
  const table = coders(["kv", "kv", "bytes", "odd"], ["bytes", "bytes"], ["odd", "my_own"]);
  const error = t.throws(() => compileSkip(table, "kv"), { instanceOf: WeirError });
  t.is(error.code, "UNIMPLEMENTED");
  t.regex(error.message, /beam:coder:my_own:v1/);
  t.throws(() => compileSkip(table, "gone"), { message: /"gone" is not defined/ });
  t.throws(() => compileSkip(coders(["kv", "kv", "kv"]), "kv"), { instanceOf: Error });
});

test("malformed counts and flags are refused", (t) => {
  const table = coders(
    ["it", "iterable", "bytes"],
    ["bytes", "bytes"],
    ["bool", "bool"],
    ["wv", "windowed_value", "bytes", "gw"],
    ["gw", "global_window"],
    ["varint", "varint"],
  );
  const refused = (coderId: string, ...bytes: number[]): void => {
    const error = t.throws(() => compileSkip(table, coderId)(Uint8Array.from(bytes), 0), { instanceOf: WeirError });
    t.is(error.code, "DATA_LOSS");
  };
  refused("it", 0xff, 0xff, 0xff, 0xfe);
  // A token where the coder is not state-backed.
  refused("it", 0xff, 0xff, 0xff, 0xff, ...new Array<number>(9).fill(0xff), 1, 0);
  refused("bool", 2);
  refused("wv", 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0x0f, 0);
  refused("wv", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x3f, 0);
  refused("varint", ...new Array<number>(10).fill(0xff), 1);
  refused("bytes", 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0);
});

test("billions of windows that take no bytes are skipped at once", (t) => {
  const table = coders(["it", "iterable", "gw"], ["gw", "global_window"]);
  t.is(compileSkip(table, "it")(Uint8Array.of(0x7f, 0xff, 0xff, 0xff), 0), 4);
});

test("random bytes are skipped or refused, never read past their end", (t) => {
  const table = coders(
    ["wv", "windowed_value", "kv", "iw"],
    ["iw", "interval_window"],
    ["kv", "kv", "bytes", "it"],
    ["it", "state_backed_iterable", "nullable"],
    ["nullable", "nullable", "bytes"],
    ["bytes", "bytes"],
  );
  const skip = compileSkip(table, "wv");
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        return skip(bytes, 0) <= bytes.length;
      } catch (error) {
        return error instanceof WeirError && error.code === "DATA_LOSS";
      }
    }),
    { numRuns: 2000 },
  );
  t.pass();
});
