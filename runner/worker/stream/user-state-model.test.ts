import { tmpdir } from "node:os";
import test from "ava";
import fc from "fast-check";
import { SqliteRows } from "../../state/keyed/sqlite-rows.ts";
import { MemoryRows, type ScratchSpace } from "../../state/state-rows.ts";
import { END_OF_GLOBAL_WINDOW } from "../../time/timestamp.ts";
import { interval, nested, open, rowCount, Sdk, varint } from "./user-state-fixture.ts";

/** What state should be: a bag's stream, a map of streams, a sorted list of entries; by cell. */
interface Model {
  readonly bags: Map<string, string>;
  readonly maps: Map<string, Map<string, string>>;
  readonly lists: Map<string, { key: bigint; value: string }[]>;
}

type Op = {
  readonly kind: "bag" | "map" | "list";
  readonly op: "append" | "clear" | "clearAll";
  readonly key: string;
  readonly window: number;
  readonly mapKey: string;
  readonly sortKey: bigint;
  readonly span: bigint;
  readonly values: string[];
};

const SORT_KEYS = [-(2n ** 63n), 2n ** 63n - 2n, -1n, 0n, 1n, 127n, 128n, 2n ** 53n + 1n, 1n << 50n, 5n, 6n, 7n];

const opArbitrary: fc.Arbitrary<Op> = fc.record({
  kind: fc.constantFrom("bag" as const, "map" as const, "list" as const),
  op: fc.constantFrom("append" as const, "append" as const, "append" as const, "clear" as const, "clearAll" as const),
  key: fc.constantFrom("", "\0", "key", "\xff\xff"),
  window: fc.constantFrom(10, 20),
  mapKey: fc.constantFrom("", "\x01m", "\x01n", "\x02mm", "\x01o"),
  sortKey: fc.constantFrom(...SORT_KEYS),
  span: fc.constantFrom(0n, 1n, 3n, 2n ** 53n),
  values: fc.array(fc.constantFrom("a", "bb", "a longer value", ""), { minLength: 1, maxLength: 4 }),
});

function cellOf(op: Op): string {
  return `${op.window}/${op.key}`;
}

function clampedEnd(op: Op): bigint {
  const end = op.sortKey + op.span;
  return end > 2n ** 63n - 1n ? 2n ** 63n - 1n : end;
}

function applyToModel(model: Model, op: Op): void {
  const cell = cellOf(op);
  const encoded = op.values.map(nested).join("");
  if (op.kind === "bag") {
    if (op.op === "append") model.bags.set(cell, (model.bags.get(cell) ?? "") + encoded);
    else model.bags.delete(cell);
    return;
  }
  if (op.kind === "map") {
    const map = model.maps.get(cell) ?? new Map<string, string>();
    model.maps.set(cell, map);
    if (op.op === "append") map.set(op.mapKey, `${map.get(op.mapKey) ?? ""}${encoded}`);
    else if (op.op === "clear") map.delete(op.mapKey);
    else map.clear();
    return;
  }
  const list = model.lists.get(cell) ?? [];
  if (op.op === "append") list.push(...op.values.map((value, index) => ({ key: sortKeyOf(op, index), value })));
  const kept = list.filter(
    ({ key }) => op.op === "append" || (op.op === "clear" && (key < op.sortKey || key >= clampedEnd(op))),
  );
  model.lists.set(
    cell,
    kept.sort((left, right) => (left.key < right.key ? -1 : left.key > right.key ? 1 : 0)),
  );
}

function sortKeyOf(op: Op, index: number): bigint {
  return index % 2 === 0
    ? op.sortKey
    : (SORT_KEYS[(SORT_KEYS.indexOf(op.sortKey) + index) % SORT_KEYS.length] as bigint);
}

function applyToState(sdk: Sdk, op: Op): void {
  const at = { key: op.key, window: interval(0, op.window) };
  const encoded = op.values.map(nested).join("");
  const range = { start: op.sortKey, end: clampedEnd(op) };
  if (op.kind === "bag") {
    if (op.op === "append") sdk.append("bagUserState", at, encoded);
    else sdk.clear("bagUserState", at);
  } else if (op.kind === "map") {
    if (op.op === "append") sdk.append("multimapUserState", { ...at, state: "map", mapKey: op.mapKey }, encoded);
    else if (op.op === "clear") sdk.clear("multimapUserState", { ...at, state: "map", mapKey: op.mapKey });
    else sdk.clear("multimapKeysUserState", { ...at, state: "map" });
  } else if (op.op === "append") {
    const entries = op.values.map((value, index) => varint(sortKeyOf(op, index)) + nested(value)).join("");
    sdk.append("orderedListUserState", { ...at, state: "list" }, entries);
  } else sdk.clear("orderedListUserState", { ...at, state: "list", ...(op.op === "clear" ? { range } : {}) });
}

function differs(sdk: Sdk, model: Model, op: Op): string | undefined {
  const at = { key: op.key, window: interval(0, op.window) };
  const cell = cellOf(op);
  const expect = (what: string, actual: string, expected: string) =>
    actual === expected ? undefined : `${what} is ${JSON.stringify(actual)}, not ${JSON.stringify(expected)}`;
  if (op.kind === "bag") return expect("bag", sdk.read("bagUserState", at), model.bags.get(cell) ?? "");
  if (op.kind === "map") {
    const map = model.maps.get(cell) ?? new Map<string, string>();
    const values = sdk.read("multimapUserState", { ...at, state: "map", mapKey: op.mapKey });
    return (
      expect("keys", sdk.read("multimapKeysUserState", { ...at, state: "map" }), [...map.keys()].join("")) ??
      expect("values", values, map.get(op.mapKey) ?? "")
    );
  }
  const list = model.lists.get(cell) ?? [];
  const range = { start: op.sortKey, end: clampedEnd(op) };
  const encode = (entries: typeof list) => entries.map(({ key, value }) => varint(key) + nested(value)).join("");
  const inRange = list.filter(({ key }) => key >= range.start && key < range.end);
  return (
    expect("list", sdk.read("orderedListUserState", { ...at, state: "list" }), encode(list)) ??
    expect("range", sdk.read("orderedListUserState", { ...at, state: "list", range }), encode(inRange))
  );
}

function copyOf(model: Model): Model {
  return structuredClone(model);
}

/** Most rows of it lie in a file. */
function tinyRows(): SqliteRows {
  return new SqliteRows({
    directory: tmpdir(),
    label: "weir-user-state-test",
    memoryBytes: 2_000,
    tracksChanges: true,
  });
}

/** Half of what a bundle writes lies there, most of that in a file. */
function tinyScratch(): ScratchSpace {
  return {
    memoryBytes: 30,
    open: () => {
      const rows = new SqliteRows({
        directory: tmpdir(),
        label: "weir-user-state-test",
        memoryBytes: 500,
        tracksChanges: false,
      });
      return { table: (name) => rows.table(name), relief: () => undefined, close: () => rows.close() };
    },
  };
}

test("random requests in bundles that commit or abort, with restores between, do what a naive model does", (t) => {
  const bundles = fc.array(
    fc.record({ ops: fc.array(opArbitrary, { maxLength: 12 }), commit: fc.boolean(), restore: fc.boolean() }),
    { maxLength: 12, size: "max" },
  );
  fc.assert(
    fc.property(
      bundles,
      fc.constantFrom(8, 24, 4096),
      fc.boolean(),
      fc.boolean(),
      (given, pageBytes, inMemory, spills) => {
        const rows = inMemory ? new MemoryRows() : tinyRows();
        const options = { rows, pageBytes, windows: "interval", scratch: spills ? tinyScratch() : undefined } as const;
        let state = open(options);
        let model: Model = { bags: new Map(), maps: new Map(), lists: new Map() };
        const seen: Op[] = [];
        for (const { ops, commit, restore } of given) {
          const before = copyOf(model);
          const bundle = state.beginBundle();
          const sdk = new Sdk(bundle);
          for (const op of ops) {
            applyToModel(model, op);
            applyToState(sdk, op);
            seen.push(op);
            for (const place of [op, ...seen.slice(0, 5)]) {
              const difference = differs(sdk, model, place);
              if (difference !== undefined) throw new Error(difference);
            }
          }
          if (commit) bundle.commit();
          else {
            bundle.abort();
            model = before;
          }
          if (restore) state = open(options);
        }
        state.expireWindows(END_OF_GLOBAL_WINDOW);
        const left = rowCount(rows);
        if (rows instanceof SqliteRows) rows.close();
        return left === 0;
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});
