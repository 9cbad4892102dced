import test from "ava";
import fc from "fast-check";
import { ProcessBundleDescriptor, RemoteGrpcPort } from "../../proto/gen/beam_fn_api.ts";
import {
  ParDoPayload,
  type StateSpec,
  TimeDomain_Enum,
  type TimerFamilySpec,
} from "../../proto/gen/beam_runner_api.ts";
import { SmallPipeline } from "../../test/pipelines/small-pipeline.ts";
import { buildExecutionGraph } from "./build-execution-graph.ts";
import type { ExecutableStageSpec, ExecutionGraph } from "./execution-graph.ts";

const KNOWN_CODERS =
  /^beam:coder:(bytes|kv|iterable|state_backed_iterable|length_prefix|windowed_value|global_window|interval_window|custom_window|double|timer|varint|string_utf8|bool):v1$/;

const STATE: StateSpec = { spec: undefined, protocol: undefined };
const TIMER: TimerFamilySpec = { timeDomain: TimeDomain_Enum.EVENT_TIME, timerFamilyCoderId: "" };

interface Step {
  readonly kind: "par-do" | "group-by-key" | "reshuffle" | "flatten" | "other-environment" | "stateful";
  readonly inputs: readonly number[];
}

const anyStep: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(
    "par-do",
    "par-do",
    "par-do",
    "group-by-key",
    "reshuffle",
    "flatten",
    "other-environment",
    "stateful",
  ),
  inputs: fc.array(fc.nat(1000), { minLength: 1, maxLength: 3 }),
});

/** Each step reads what earlier steps wrote: its first input is the main one, the others are side inputs. */
function pipelineOf(steps: readonly Step[]): SmallPipeline {
  const small = new SmallPipeline();
  small.components.environments["other"] = { ...small.components.environments["env"]!, urn: "beam:env:process:v1" };
  const written = [small.parDo("start", small.impulse("impulse"))];
  steps.forEach(({ kind, inputs }, index) => {
    const [main = "", ...sides] = inputs.map((input) => written[input % written.length] ?? "");
    const id = `t${index}`;
    const add = (): string => {
      switch (kind) {
        case "group-by-key":
          return small.groupByKey(id, main);
        case "reshuffle":
          return small.reshuffle(id, main);
        case "flatten":
          return small.flatten(id, [main, ...sides]);
        case "par-do":
          return small.parDo(id, main, sides);
        case "other-environment":
          return small.parDo(id, main, sides, {}, "other");
        case "stateful":
          return small.parDo(id, main, sides, { stateSpecs: { s: STATE }, timerFamilySpecs: { t: TIMER } });
      }
    };
    written.push(add());
  });
  return small;
}

test("any pipeline becomes an acyclic graph that runs every ParDo once and whose parts agree", (t) => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 25 }), (steps) => {
      const small = pipelineOf(steps);
      const graph = buildExecutionGraph(small.pipeline);
      checkGraph(graph);
      const run = graph.vertices
        .flatMap((vertex) => vertex.stage?.transforms ?? [])
        .filter(({ urn }) => urn.endsWith(":pardo:v1"));
      const parDos = Object.values(small.components.transforms).filter(({ spec }) => spec?.urn.endsWith(":pardo:v1"));
      must(
        run.length === parDos.length && new Set(run.map(({ id }) => id)).size === run.length,
        "every ParDo runs once",
      );
    }),
    { numRuns: 200 },
  );
  t.pass();
});

function checkGraph(graph: ExecutionGraph): void {
  const done = new Set<string>();
  for (const vertex of graph.vertices) {
    const read = [...vertex.inputs, ...(vertex.stage?.sideInputs ?? []).flatMap((side) => side.datasets)];
    for (const id of read)
      must(done.has(graph.datasets[id]?.producer ?? ""), `${vertex.id} reads ${id} before it is written`);
    must(new Set(vertex.inputs).size === vertex.inputs.length, `${vertex.id} reads a dataset twice`);
    const written = [...vertex.headOutputs, ...(vertex.stage?.sinks ?? []).flatMap((sink) => sink.datasets)];
    for (const id of written) must(graph.datasets[id]?.producer === vertex.id, `${vertex.id} writes another's ${id}`);
    if (vertex.head.kind === "group-by-key" || vertex.stage?.userStates.length) {
      for (const id of vertex.inputs)
        must(graph.datasets[id]?.partitioner === "hash", `${vertex.id} is keyed, ${id} is not`);
    }
    if (vertex.stage !== undefined) checkStage(graph, vertex.stage);
    done.add(vertex.id);
  }
  const written = graph.vertices.flatMap((v) => [
    ...v.headOutputs,
    ...(v.stage?.sinks ?? []).flatMap((sink) => sink.datasets),
  ]);
  must(written.length === Object.keys(graph.datasets).length, "every dataset is written once");
  for (const [id, coder] of Object.entries(graph.coders)) {
    must(KNOWN_CODERS.test(coder.urn), `coder ${id} is ${coder.urn}`);
    for (const component of coder.components) must(component in graph.coders, `coder ${component} is missing`);
  }
}

/** Nothing that the descriptor names is missing from it, and ports and PCollections have one coder. */
function checkStage(graph: ExecutionGraph, stage: ExecutableStageSpec): void {
  const descriptor = ProcessBundleDescriptor.decode(stage.descriptor);
  must(stage.inputCoderId in graph.coders, "the input's coder is in the table");
  for (const [id, transform] of Object.entries(descriptor.transforms)) {
    for (const pcollection of [...Object.values(transform.inputs), ...Object.values(transform.outputs)]) {
      must(pcollection in descriptor.pcollections, `${pcollection} of ${id} is missing`);
    }
    if (id !== stage.sourceTransformId && !stage.sinks.some((sink) => sink.transformId === id)) continue;
    const { coderId } = RemoteGrpcPort.decode(transform.spec!.payload);
    const [pcollectionId] = [...Object.values(transform.inputs), ...Object.values(transform.outputs)];
    const elementCoderId = descriptor.coders[coderId]?.componentCoderIds[0];
    must(
      elementCoderId === descriptor.pcollections[pcollectionId ?? ""]?.coderId,
      `${id} has another coder than its PCollection`,
    );
  }
  for (const pcollection of Object.values(descriptor.pcollections)) {
    must(pcollection.coderId in descriptor.coders, `coder ${pcollection.coderId} is missing`);
    must(pcollection.windowingStrategyId in descriptor.windowingStrategies, "a windowing is missing");
  }
  for (const coder of Object.values(descriptor.coders)) {
    for (const component of coder.componentCoderIds)
      must(component in descriptor.coders, `coder ${component} is missing`);
  }
}

function must(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

test("a consumer is not fused with what its side input comes from", (t) => {
  const small = new SmallPipeline();
  const start = small.parDo("Start", small.impulse("Impulse"));
  const grouped = small.groupByKey("Group", small.parDo("Derived", start));
  small.parDo("Use", start, [small.parDo("Side", grouped)]);
  const graph = buildExecutionGraph(small.pipeline);
  const stageWith = (id: string) =>
    graph.vertices.find((vertex) => vertex.stage?.transforms.some((part) => part.id === id));
  t.is(stageWith("Start"), stageWith("Derived"));
  t.not(stageWith("Start"), stageWith("Use"));
  t.is(stageWith("Use")?.stage?.sideInputs.length, 1);
});

test("environments that differ only by resource hints do not break fusion", (t) => {
  const small = new SmallPipeline();
  small.components.environments["hinted"] = {
    ...small.components.environments["env"]!,
    resourceHints: { "beam:resources:min_ram_bytes:v1": new Uint8Array([49]) },
  };
  small.parDo("B", small.parDo("A", small.impulse("Impulse")), [], {}, "hinted");
  t.is(buildExecutionGraph(small.pipeline).vertices.length, 1);
});

test("keys whose coder the runner does not know are length-prefixed on both sides of a grouping, and in timers", (t) => {
  const small = new SmallPipeline();
  small.components.coders["pickledKey"] = {
    ...small.components.coders["kv"]!,
    componentCoderIds: ["pickled", "bytes"],
  };
  const start = small.parDo("Start", small.impulse("Impulse"));
  small.components.pcollections[start]!.coderId = "pickledKey";
  small.parDo("Use", small.groupByKey("Group", start));
  small.parDo("Stateful", start, [], { timerFamilySpecs: { flush: TIMER } });
  const graph = buildExecutionGraph(small.pipeline);
  const keyUrn = (windowedId: string): string | undefined => {
    const element = graph.coders[graph.coders[windowedId]?.components[0] ?? ""];
    return graph.coders[element?.components[0] ?? ""]?.urn;
  };
  const hashed = Object.values(graph.datasets).filter((dataset) => dataset.partitioner === "hash");
  t.deepEqual(
    hashed.map(({ coderId }) => keyUrn(coderId)),
    ["beam:coder:length_prefix:v1"],
  );
  const group = graph.vertices.find((vertex) => vertex.head.kind === "group-by-key");
  t.is(keyUrn(group?.stage?.inputCoderId ?? ""), "beam:coder:length_prefix:v1");
  const stateful = graph.vertices.find((vertex) => vertex.stage?.timers.length === 1);
  const timer = stateful?.stage?.timers[0];
  t.is(graph.coders[graph.coders[timer?.coderId ?? ""]?.components[0] ?? ""]?.urn, "beam:coder:length_prefix:v1");
  const descriptor = ProcessBundleDescriptor.decode(stateful?.stage?.descriptor ?? new Uint8Array());
  const payload = ParDoPayload.decode(descriptor.transforms["Stateful"]?.spec?.payload ?? new Uint8Array());
  t.is(payload.timerFamilySpecs["flush"]?.timerFamilyCoderId, timer?.coderId);
});

test("a PCollection that is main and side input of a splittable DoFn is not processed for the side input", (t) => {
  const small = new SmallPipeline();
  const start = small.parDo("Start", small.impulse("Impulse"));
  small.parDo("Split", start, [start], { restrictionCoderId: "bytes" });
  const graph = buildExecutionGraph(small.pipeline);
  const pair = graph.vertices.find((vertex) =>
    vertex.stage?.transforms.some(({ id }) => id === "Split/PairWithRestriction"),
  );
  const descriptor = ProcessBundleDescriptor.decode(pair?.stage?.descriptor ?? new Uint8Array());
  t.deepEqual(descriptor.transforms["Split/PairWithRestriction"]?.inputs, { in: start, side0: `side:${start}` });
  t.deepEqual(Object.keys(descriptor.pcollections).includes(`side:${start}`), true);
});

test("groups go state-backed only to an SDK that can read them so, and only where nobody else reads them", (t) => {
  const small = new SmallPipeline();
  const start = small.parDo("Start", small.impulse("Impulse"));
  small.parDo("Use", small.groupByKey("Group", start));
  const headOf = (stateBackedIterables: boolean) =>
    buildExecutionGraph(small.pipeline, { stateBackedIterables }).vertices.flatMap(({ head }) =>
      head.kind === "group-by-key" ? [head.stateBacked] : [],
    );
  t.deepEqual(headOf(true), [false]);
  small.components.environments["env"]!.capabilities = ["beam:coder:state_backed_iterable:v1"];
  t.deepEqual(headOf(true), [true]);
  t.deepEqual(headOf(false), [false]);
  small.groupByKey("Again", "Group.out");
  small.parDo("UseAgain", "Again.out");
  const graph = buildExecutionGraph(small.pipeline);
  t.deepEqual(
    graph.vertices.map(({ head, stage }) => [
      head.kind,
      head.kind === "group-by-key" && head.stateBacked,
      stage !== undefined,
    ]),
    [
      ["impulse", false, true],
      ["group-by-key", false, false],
      ["read", false, true],
      ["group-by-key", true, true],
    ],
  );
});

test("a pipeline of ten thousand transforms in a row is planned without deep recursion", (t) => {
  const small = new SmallPipeline();
  let last = small.impulse("Impulse");
  for (let index = 0; index < 10_000; index++) last = small.parDo(`t${index}`, last);
  const graph = buildExecutionGraph(small.pipeline);
  t.is(graph.vertices[0]?.stage?.transforms.length, 10_000);
});

test("a Flatten of two coders is written with its own, by an identity only where others read the old one", (t) => {
  const small = new SmallPipeline();
  const a = small.parDo("A", small.impulse("ImpulseA"));
  const b = small.parDo("B", small.impulse("ImpulseB"));
  for (const id of [a, b]) small.components.pcollections[id]!.coderId = "pickled";
  small.parDo("Other", b, [a]);
  small.parDo("Use", small.groupByKey("Group", small.flatten("Flatten", [a, b])));
  const graph = buildExecutionGraph(small.pipeline);
  const group = graph.vertices.find((vertex) => vertex.head.kind === "group-by-key");
  const read = (group?.inputs ?? []).map((id) => graph.datasets[id]);
  t.deepEqual(
    read.map((dataset) => [dataset?.pcollectionId, graph.coders[dataset?.coderId ?? ""]?.components[0]]),
    [
      ["Flatten.out/Transcode/0", "kv"],
      ["Flatten.out/Transcode/1", "kv"],
    ],
  );
  const alone = new SmallPipeline();
  const c = alone.parDo("C", alone.impulse("ImpulseC"));
  alone.components.pcollections[c]!.coderId = "pickled";
  alone.parDo("Use", alone.groupByKey("Group", alone.reshuffle("Reshuffle", c)));
  const transforms = buildExecutionGraph(alone.pipeline).vertices.map(({ stage }) =>
    stage?.transforms.map(({ id }) => id),
  );
  t.deepEqual(transforms, [["C"], ["Use"]]);
});
