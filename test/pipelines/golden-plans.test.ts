/**
 * Golden plans: every *.pb beside this file is planned and compared with its *.golden. WEIR_UPDATE_GOLDEN=1 rewrites
 * them; read the diff before committing it.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { Components, Pipeline } from "../../proto/gen/beam_runner_api.ts";
import { buildExecutionGraph } from "../../runner/graph/build-execution-graph.ts";
import { decodeExecutionGraph, encodeExecutionGraph } from "../../runner/graph/execution-graph-json.ts";
import { explainPlan } from "../../runner/graph/explain-plan.ts";

const here = import.meta.dirname;
const names = readdirSync(here)
  .filter((file) => file.endsWith(".pb"))
  .map((file) => file.slice(0, -".pb".length))
  .sort();

for (const name of names) {
  const bytes = readFileSync(join(here, `${name}.pb`));
  const goldenFile = join(here, `${name}.golden`);

  test(`the plan of ${name} is as its golden file says`, (t) => {
    const plan = explainPlan(buildExecutionGraph(bytes));
    if (process.env["WEIR_UPDATE_GOLDEN"] === "1") writeFileSync(goldenFile, plan);
    t.true(existsSync(goldenFile), `${goldenFile} is missing: run with WEIR_UPDATE_GOLDEN=1`);
    t.is(plan, readFileSync(goldenFile, "utf8"));
  });

  test(`the plan of ${name} does not depend on the order of maps in the proto, and survives its JSON`, (t) => {
    const graph = buildExecutionGraph(bytes);
    const decoded = Pipeline.decode(bytes);
    const reversed = { ...decoded, components: reverseMaps(decoded.components ?? Components.create()) };
    t.deepEqual(buildExecutionGraph(reversed), graph);
    const json = encodeExecutionGraph(graph);
    const restored = decodeExecutionGraph(json);
    t.deepEqual(encodeExecutionGraph(restored), json);
    t.is(explainPlan(restored), explainPlan(graph));
  });
}

test("there are golden plans", (t) => {
  t.true(names.length >= 20);
});

function reverseMaps(components: Components): Components {
  const reverse = <Value>(map: Record<string, Value>): Record<string, Value> =>
    Object.fromEntries(Object.entries(map).reverse());
  return {
    transforms: reverse(components.transforms),
    pcollections: reverse(components.pcollections),
    windowingStrategies: reverse(components.windowingStrategies),
    coders: reverse(components.coders),
    environments: reverse(components.environments),
  };
}
