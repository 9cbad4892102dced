import { readFile } from "node:fs/promises";
import test from "ava";
import { buildExecutionGraph } from "./build-execution-graph.ts";
import { requireSupported } from "./supported-features.ts";

const pipeline = async (name: string) =>
  buildExecutionGraph(await readFile(new URL(`../../test/pipelines/${name}.pb`, import.meta.url)));

test("user state is refused with the transform's name", async (t) => {
  const graph = await pipeline("stateful");
  t.throws(() => requireSupported(graph), { code: "UNIMPLEMENTED", message: /Transform ".+" uses user state/ });
});

test("a pipeline without them passes", async (t) => {
  const graph = await pipeline("wordcount");
  t.notThrows(() => requireSupported(graph));
});
