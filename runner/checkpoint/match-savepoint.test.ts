import test from "ava";
import { matchSavepoint, type PipelineFacts } from "./match-savepoint.ts";

function facts(idPrefix: string, valueUrn = "beam:coder:varint:v1", stateId = "count"): PipelineFacts {
  const id = `${idPrefix}t1`;
  return {
    vertices: [
      { vertexId: `${idPrefix}v0`, name: "Impulse", transforms: [] },
      { vertexId: `${idPrefix}v1`, name: "Count", transforms: [{ id, name: "Words/Count" }] },
    ],
    tables: [
      {
        vertexId: `${idPrefix}v1`,
        table: `user-state/${id}/${stateId}`,
        kind: "value",
        transformId: id,
        transform: "Words/Count",
        stateId,
        keyCoderId: `${idPrefix}k`,
        windowCoderId: "",
        valueCoderId: `${idPrefix}n`,
        mapKeyCoderId: "",
      },
    ],
    coders: {
      [`${idPrefix}k`]: { urn: "beam:coder:bytes:v1", components: [] },
      [`${idPrefix}n`]: { urn: valueUrn, components: [] },
    },
  };
}

test("stages are found again by their transforms' names, whatever their ids", (t) => {
  const { vertices, notRestored, incompatible } = matchSavepoint(facts("a"), facts("b"));
  t.deepEqual([notRestored, incompatible], [[], []]);
  t.deepEqual(vertices.get("bv1"), { formerVertexId: "av1", renamed: [{ formerId: "at1", id: "bt1" }] });
  t.is(vertices.size, 2);
});

test("what breaks is named: a transform that is gone, a state that is gone, another coder", (t) => {
  const gone = matchSavepoint(facts("a"), { ...facts("b"), vertices: [] });
  t.regex(gone.notRestored.join(), /"Words\/Count", which the pipeline does not have/);
  t.regex(
    matchSavepoint(facts("a"), facts("b", undefined, "sum")).notRestored.join(),
    /State "count" of "Words\/Count"/,
  );
  const { incompatible } = matchSavepoint(facts("a"), facts("b", "beam:coder:double:v1"));
  t.regex(incompatible.join(), /coder of its value was beam:coder:varint:v1 and is beam:coder:double:v1/);
});

test("a snapshot that does not name its transforms is refused", (t) => {
  t.is(matchSavepoint({}, facts("b")).incompatible.length, 1);
});

const WINDOWING = {
  windowFn: "beam:window_fn:fixed_windows:v1?AA==",
  trigger: "",
  accumulationMode: "",
  allowedLatenessMs: 0,
};

test("windowing: what windows have begun with is kept, what they could not be read by is named", (t) => {
  const windowed = (change: object): PipelineFacts => {
    const plain = facts("a");
    return { ...plain, tables: plain.tables.map((table) => ({ ...table, windowing: { ...WINDOWING, ...change } })) };
  };
  const match = (change: object) => {
    const { incompatible, changed } = matchSavepoint(windowed({}), windowed(change));
    return { incompatible: incompatible.join(), changed: changed.join() };
  };
  t.deepEqual(match({}), { incompatible: "", changed: "" });
  t.regex(
    match({ windowFn: "beam:window_fn:sliding_windows:v1?AA==" }).incompatible,
    /WindowFn was .*fixed.* and is .*sliding/,
  );
  t.regex(
    match({ windowFn: "beam:window_fn:fixed_windows:v1?AAE=" }).changed,
    /other parameters; windows that have begun stay/,
  );
  t.regex(match({ trigger: "Cg==" }).incompatible, /trigger was changed/);
  t.regex(match({ accumulationMode: "ACCUMULATING" }).incompatible, /accumulation mode/);
  t.regex(match({ allowedLatenessMs: 5 }).changed, /lateness was 0 ms and is 5 ms now/);
  // An older snapshot does not say.
  t.deepEqual(matchSavepoint(facts("a"), windowed({})).incompatible, []);
});

test("a timer of another time domain is named", (t) => {
  const timers = (timeDomain: "EVENT_TIME" | "PROCESSING_TIME"): PipelineFacts => {
    const plain = facts("a");
    return { ...plain, tables: plain.tables.map((table) => ({ ...table, kind: "timers", timeDomain })) };
  };
  t.deepEqual(matchSavepoint(timers("EVENT_TIME"), timers("EVENT_TIME")).incompatible, []);
  t.regex(
    matchSavepoint(timers("EVENT_TIME"), timers("PROCESSING_TIME")).incompatible.join(),
    /Timer "count" of "Words\/Count" was one of EVENT_TIME and is one of PROCESSING_TIME now/,
  );
});
