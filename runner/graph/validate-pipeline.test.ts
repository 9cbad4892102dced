import test from "ava";
import {
  AccumulationMode_Enum,
  type Components,
  type Pipeline,
  WindowingStrategy,
} from "../../proto/gen/beam_runner_api.ts";
import { SmallPipeline } from "../../test/pipelines/small-pipeline.ts";
import { WeirError } from "../base/errors.ts";
import { explainPlan } from "./explain-plan.ts";
import { buildExecutionGraph } from "./build-execution-graph.ts";

/** Impulse → A (ParDo) → Group → B (ParDo). */
function wholePipeline(): SmallPipeline {
  const small = new SmallPipeline();
  small.parDo("B", small.groupByKey("Group", small.parDo("A", small.impulse("Impulse"))));
  return small;
}

const transform = (components: Components, id: string) =>
  components.transforms[id] as NonNullable<(typeof components.transforms)[string]>;

/** What is broken, how, and what the message must name. */
const REFUSED: readonly [string, (components: Components) => void, RegExp][] = [
  [
    "an unknown primitive",
    (c) => (transform(c, "A").spec = { urn: "beam:transform:magic:v7", payload: new Uint8Array() }),
    /Unknown primitive.*'A' \(beam:transform:magic:v7\)/,
  ],
  [
    "an unknown primitive without environment",
    (c) => Object.assign(transform(c, "A"), { spec: { urn: "x:y", payload: new Uint8Array() }, environmentId: "" }),
    /'A' \(x:y\)/,
  ],
  [
    "a TestStream without a coder",
    (c) => (transform(c, "Impulse").spec = { urn: "beam:transform:teststream:v1", payload: new Uint8Array() }),
    /Coder '' of the elements of transform 'Impulse' \(beam:transform:teststream:v1\) is not in the pipeline/,
  ],
  [
    "retracting accumulation",
    (c) => (c.windowingStrategies["global"]!.accumulationMode = AccumulationMode_Enum.RETRACTING),
    /The windowing 'global' of the input of transform '.+' \(beam:transform:group_by_key:v1\) retracts/,
  ],
  [
    "a ParDo without environment",
    (c) => (transform(c, "A").environmentId = ""),
    /'A' \(beam:transform:pardo:v1\) has no environment/,
  ],
  [
    "a dangling environment",
    (c) => (transform(c, "A").environmentId = "gone"),
    /Environment 'gone' of transform 'A' \(beam:transform:pardo:v1\)/,
  ],
  [
    "a dangling PCollection",
    (c) => delete c.pcollections["A.out"],
    /PCollection 'A.out'.*'A' \(beam:transform:pardo:v1\).*not in the pipeline/,
  ],
  [
    "an input that nothing produces",
    (c) => (
      (transform(c, "B").inputs = { in: "Lost.out" }),
      (c.pcollections["Lost.out"] = { ...c.pcollections["A.out"]! })
    ),
    /'Lost.out', an input of transform 'B'.*produced by no transform/,
  ],
  [
    "a dangling coder",
    (c) => (c.pcollections["A.out"]!.coderId = "gone"),
    /Coder 'gone' of PCollection 'A.out'.*transform 'A' \(beam:transform:pardo:v1\)/,
  ],
  [
    "a missing coder component",
    (c) => (c.coders["kv"]!.componentCoderIds = ["bytes", "gone"]),
    /Coder 'gone' \(a component of coder 'kv'\).*'A' \(beam:transform:pardo:v1\)/,
  ],
  [
    "a KV coder of one component",
    (c) => (c.coders["kv"]!.componentCoderIds = ["bytes"]),
    /'kv' \(beam:coder:kv:v1\).*must have 2 component/,
  ],
  [
    "a coder inside itself",
    (c) => (c.coders["kv"]!.componentCoderIds = ["bytes", "kv"]),
    /Coder 'kv'.*component of itself/,
  ],
  [
    "a dangling windowing strategy",
    (c) => (c.pcollections["A.out"]!.windowingStrategyId = "gone"),
    /Windowing strategy 'gone' of PCollection 'A.out'.*'A' \(beam:transform:pardo:v1\)/,
  ],
  [
    "a dangling subtransform",
    (c) => Object.assign(transform(c, "A"), { spec: undefined, subtransforms: ["gone"] }),
    /Transform id 'gone' among the subtransforms of 'A'/,
  ],
  [
    "a composite inside itself",
    (c) => Object.assign(transform(c, "A"), { spec: undefined, subtransforms: ["A"] }),
    /'A'.*in itself/,
  ],
  [
    "a cycle",
    (c) => (transform(c, "A").inputs = { in: "B.out" }),
    /cycle through transform '(A|B|Group)' \(beam:transform/,
  ],
  [
    "two producers of a PCollection",
    (c) => ((transform(c, "B").outputs = { out: "A.out" }), (transform(c, "B").inputs = { in: "Impulse.out" })),
    /'A.out' is produced by both transform 'A'.*and transform 'B'/,
  ],
  [
    "a GroupByKey of what is no KV",
    (c) => (c.pcollections["A.out"]!.coderId = "bytes"),
    /input of transform 'Group' \(beam:transform:group_by_key:v1\) is not coded as KV but as beam:coder:bytes:v1/,
  ],
  [
    "a GroupByKey without input",
    (c) => (transform(c, "Group").inputs = {}),
    /'Group' \(beam:transform:group_by_key:v1\) must have 1 main input, not 0/,
  ],
  [
    "a ParDo whose payload is garbage",
    (c) => (transform(c, "A").spec!.payload = new Uint8Array([255, 255])),
    /payload of transform 'A' \(beam:transform:pardo:v1\) is not a ParDoPayload/,
  ],
];

for (const [what, breakIt, message] of REFUSED) {
  test(`${what} is refused by name`, (t) => {
    const small = wholePipeline();
    breakIt(small.components);
    const error = t.throws(() => buildExecutionGraph(small.pipeline), { instanceOf: WeirError, message });
    t.is(error?.code, "INVALID_ARGUMENT");
    t.is(error?.domain, "user");
  });
}

test("the pipeline that the others are broken from is accepted", (t) => {
  t.is(buildExecutionGraph(wholePipeline().pipeline).vertices.length, 2);
});

test("an unknown requirement is refused by name and a known one is not", (t) => {
  const { pipeline } = wholePipeline();
  const requiring = (requirement: string): Pipeline => ({ ...pipeline, requirements: [requirement] });
  t.notThrows(() => buildExecutionGraph(requiring("beam:requirement:pardo:stateful:v1")));
  const error = t.throws(() => buildExecutionGraph(requiring("beam:requirement:telepathy:v1")), {
    instanceOf: WeirError,
  });
  t.is(error?.code, "INVALID_ARGUMENT");
  t.regex(error?.message ?? "", /'beam:requirement:telepathy:v1'/);
});

test("bytes that are no pipeline are refused, whatever they are", (t) => {
  const random = new Uint8Array(300).map((_, index) => (index * 97 + 31) % 251);
  for (const bytes of [
    new Uint8Array(),
    new Uint8Array([0xff, 0xff, 0xff]),
    random,
    new TextEncoder().encode("hello"),
  ]) {
    const error = t.throws(() => buildExecutionGraph(bytes), { instanceOf: WeirError });
    t.is(error?.code, "INVALID_ARGUMENT");
  }
});

test("a leaf without outputs that nobody knows is refused, and one that is an empty composite is left out", (t) => {
  const small = wholePipeline();
  small.add("Sink", { spec: { urn: "beam:transform:sink:v1", payload: new Uint8Array() }, outputs: {} });
  t.throws(() => buildExecutionGraph(small.pipeline), { message: /'Sink' \(beam:transform:sink:v1\)/ });
  transform(small.components, "Sink").spec = undefined;
  t.is(buildExecutionGraph(small.pipeline).vertices.length, 2);
});

test("coders that share components take no exponential time", (t) => {
  const small = wholePipeline();
  const kv = (component: string) => ({ ...small.components.coders["kv"]!, componentCoderIds: [component, component] });
  for (const name of ["left", "right"]) {
    small.components.coders[`${name}0`] = kv("bytes");
    for (let depth = 1; depth <= 100; depth++) small.components.coders[`${name}${depth}`] = kv(`${name}${depth - 1}`);
  }
  small.components.pcollections["A.out"]!.coderId = "left100";
  small.reshuffle("Reshuffle", "A.out");
  small.components.pcollections["Reshuffle.out"]!.coderId = "right100";
  small.parDo("C", "Reshuffle.out");
  t.true(explainPlan(buildExecutionGraph(small.pipeline)).includes("kv<"));
});

test("unused components may be broken: clients leave such in their protos", (t) => {
  const small = wholePipeline();
  small.components.coders["unused"] = { spec: undefined, componentCoderIds: ["gone"] };
  small.components.windowingStrategies["unused"] = WindowingStrategy.fromPartial({ windowCoderId: "gone" });
  t.notThrows(() => buildExecutionGraph(small.pipeline));
});

test("a primitive that its environment says it can run is left to it", (t) => {
  const small = wholePipeline();
  transform(small.components, "A").spec = { urn: "beam:transform:magic:v7", payload: new Uint8Array() };
  small.components.environments["env"]!.capabilities = ["beam:transform:magic:v7"];
  t.notThrows(() => buildExecutionGraph(small.pipeline));
});
