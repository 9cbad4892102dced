import { readFile } from "node:fs/promises";
import test from "ava";
import { ProcessBundleDescriptor } from "../../proto/gen/beam_fn_api.ts";
import { type BuildOptions, buildExecutionGraph } from "./build-execution-graph.ts";
import { executionMode } from "./execution-mode.ts";

const graphOf = async (name: string, options?: BuildOptions) =>
  buildExecutionGraph(await readFile(new URL(`../../test/pipelines/${name}.pb`, import.meta.url)), options);

for (const name of ["stateful", "test_stream", "unbounded"]) {
  test(`the ${name} pipeline streams whether asked to or not`, async (t) => {
    t.is(executionMode(await graphOf(name), { streaming: false }), "streaming");
  });
}

test("plain bounded pipelines block, splittable ones too, unless the user says --streaming", async (t) => {
  t.is(executionMode(await graphOf("wordcount"), { streaming: false }), "blocking");
  t.is(executionMode(await graphOf("splittable"), { streaming: false }), "blocking");
  t.is(executionMode(await graphOf("wordcount"), { streaming: true }), "streaming");
});

test("drained at the start, restrictions are truncated before they are processed", async (t) => {
  const urns = (await graphOf("unbounded", { drainAtStart: true })).vertices
    .flatMap(({ stage }) => stage?.transforms ?? [])
    .map(({ urn }) => /^beam:transform:(sdf_.*):v1$/.exec(urn)?.[1])
    .filter((urn) => urn !== undefined);
  t.deepEqual(urns, [
    "sdf_pair_with_restriction",
    "sdf_split_and_size_restrictions",
    "sdf_truncate_sized_restrictions",
    "sdf_process_sized_element_and_restrictions",
  ]);
});

test("an unbounded splittable stage can truncate what it reads: the same coder in and out", async (t) => {
  const graph = await graphOf("unbounded");
  const stage = graph.vertices.find(({ stage: found }) => found?.splittable === true)?.stage;
  t.truthy(stage?.truncate);
  const { descriptor: bytes, sourceTransformId, sinkTransformId } = stage!.truncate!;
  const descriptor = ProcessBundleDescriptor.decode(bytes);
  const { transforms } = descriptor;
  t.deepEqual(transforms[sourceTransformId]?.spec?.payload, transforms[sinkTransformId]?.spec?.payload);
  const process = ProcessBundleDescriptor.decode(stage!.descriptor);
  t.deepEqual(
    transforms[sourceTransformId]?.spec?.payload,
    process.transforms[stage!.sourceTransformId]?.spec?.payload,
  );
});
