import { readFileSync } from "node:fs";
import test from "ava";
import { parseAllDocuments } from "yaml";
import type { CoderSpec, CoderTable } from "../graph/execution-graph.ts";
import { compileValueReader } from "./element-value.ts";

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

const golden = readFileSync(new URL("testdata/standard_coders.yaml", import.meta.url), "utf8");
const sections = parseAllDocuments(golden).map((document) => document.toJS() as Section);

function tableOf(coder: YamlCoder, id: string, into: Record<string, CoderSpec>): CoderTable {
  const components = (coder.components ?? []).map((component, index) => {
    tableOf(component, `${id}.${index}`, into);
    return `${id}.${index}`;
  });
  into[id] = { urn: coder.urn, payload: new Uint8Array(Buffer.from(coder.payload ?? "", "latin1")), components };
  return into;
}

/** Coders whose golden values are written as this reader writes them. */
const SAME_FORM = ["string_utf8", "varint", "bool", "double", "kv", "iterable", "nullable"];
const isPlain = ({ urn, components = [] }: YamlCoder): boolean =>
  SAME_FORM.includes(urn.split(":")[2] ?? "") && components.every(isPlain);

const spelled = (value: unknown): string => {
  const text = String(value as string).toLowerCase();
  return text !== "-0" && Number.isFinite(Number(text)) ? String(Number(text)) : text;
};

test("Beam's golden encodings are read to their end, and those of plain coders as the values that they are", (t) => {
  let compared = 0;
  for (const { coder, nested, examples } of sections) {
    const read = compileValueReader(tableOf(coder, "coder", {}), "coder", nested === false);
    t.truthy(read, coder.urn);
    for (const [encoding, value] of Object.entries(examples)) {
      const bytes = Buffer.from(encoding, "latin1");
      const found = read?.(bytes, 0);
      t.is(found?.end, bytes.length, `${coder.urn} ${JSON.stringify(encoding)}`);
      if (!isPlain(coder)) continue;
      const isPair = coder.urn === "beam:coder:kv:v1";
      const expected = isPair ? Object.entries(value as object)[0] : value;
      const plain = JSON.stringify(found?.value);
      if (plain === JSON.stringify(expected)) compared++;
      // YAML's own spelling of numbers and text: as text they are the same.
      // Numbers that JSON does not have are text, in YAML's letters or ours.
      else if (typeof value !== "object") t.is(spelled(found?.value), spelled(value));
    }
  }
  t.true(compared > 20, `${compared} compared`);
});

test("a row is an object of its fields, and its golden values are read", (t) => {
  const rows = sections.filter(({ coder }) => coder.urn === "beam:coder:row:v1");
  let same = 0;
  for (const { coder, examples } of rows) {
    const read = compileValueReader(tableOf(coder, "coder", {}), "coder");
    for (const [encoding, value] of Object.entries(examples))
      if (JSON.stringify(read?.(Buffer.from(encoding, "latin1"), 0).value) === JSON.stringify(value)) same++;
  }
  t.true(same >= 8, `${same} rows`);
});

test("behind a length prefix a standard coder is read in its outer context; another one says nothing", (t) => {
  const coders: CoderTable = Object.fromEntries(
    Object.entries({
      text: ["string_utf8"],
      prefixed: ["length_prefix", "text"],
      pickled: ["pickled_python"],
      opaque: ["length_prefix", "pickled"],
      pair: ["kv", "opaque", "prefixed"],
    }).map(([id, [urn = "", ...components]]) => [
      id,
      { urn: `beam:coder:${urn}:v1`, payload: new Uint8Array(), components },
    ]),
  );
  t.deepEqual(compileValueReader(coders, "prefixed")?.(Buffer.from("\x02hi"), 0), { value: "hi", end: 3 });
  t.is(compileValueReader(coders, "opaque"), undefined);
  t.is(compileValueReader(coders, "gone"), undefined);
  t.deepEqual(compileValueReader(coders, "pair")?.(Buffer.from("\x01A\x02hi"), 0), { value: ["QQ==", "hi"], end: 5 });
  t.throws(() => compileValueReader(coders, "prefixed")?.(Buffer.from("\x05hi"), 0), { message: /length_prefix/ });
});
