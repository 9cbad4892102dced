import { readFile } from "node:fs/promises";
import test from "ava";
import { buildExecutionGraph } from "./build-execution-graph.ts";
import { decodePipeline } from "./decode-pipeline.ts";
import { requireSupported } from "./supported-features.ts";

const pipeline = async (name: string) =>
  decodePipeline(await readFile(new URL(`../../test/pipelines/${name}.pb`, import.meta.url)));

test("user state is refused with the transform's name", async (t) => {
  const stateful = await pipeline("stateful");
  t.throws(() => requireSupported(stateful, buildExecutionGraph(stateful)), {
    code: "UNIMPLEMENTED",
    message: /Transform ".+" uses user state/,
  });
});

test("a pipeline without them passes", async (t) => {
  const wordcount = await pipeline("wordcount");
  t.notThrows(() => requireSupported(wordcount, buildExecutionGraph(wordcount)));
});

test("an unbounded PCollection is refused with the name of what gives it", async (t) => {
  const wordcount = await pipeline("wordcount");
  for (const pcollection of Object.values(wordcount.components?.pcollections ?? {})) pcollection.isBounded = 1;
  t.throws(() => requireSupported(wordcount, buildExecutionGraph(wordcount)), {
    code: "UNIMPLEMENTED",
    message: /Transform ".+" gives an unbounded PCollection/,
  });
});
