import test from "ava";
import { AnyOfEnvironmentPayload, Environment } from "../../proto/gen/beam_runner_api.ts";
import type { ArtifactSpec, ExecutionGraph } from "../graph/execution-graph.ts";
import { dependencySets, withStagedDependencies } from "./environment-dependencies.ts";

function artifact(name: string): ArtifactSpec {
  return { typeUrn: name, typePayload: new Uint8Array(), roleUrn: "", rolePayload: new Uint8Array() };
}

function graphWith(environments: ExecutionGraph["environments"]): ExecutionGraph {
  return { vertices: [], datasets: {}, coders: {}, windowings: {}, environments, unbounded: false };
}

test("alternatives of an AnyOf environment are staged each, and the whole depends on all of them once", (t) => {
  const process = Environment.fromPartial({ urn: "beam:env:process:v1", dependencies: [artifact("a"), artifact("b")] });
  const docker = Environment.fromPartial({ urn: "beam:env:docker:v1", dependencies: [artifact("a")] });
  const payload = AnyOfEnvironmentPayload.encode({ environments: [process, docker] }).finish();
  const graph = graphWith({
    any: { urn: "beam:env:anyof:v1", payload, capabilities: [], resourceHints: [], dependencies: [] },
    plain: { urn: "beam:env:process:v1", payload, capabilities: [], resourceHints: [], dependencies: [artifact("c")] },
  });
  const sets = dependencySets(graph.environments);
  t.deepEqual(
    [...sets].map(([id, artifacts]) => [id, artifacts.map(({ typeUrn }) => typeUrn)]),
    [
      ["any", []],
      ["any/0", ["a", "b"]],
      ["any/1", ["a"]],
      ["plain", ["c"]],
    ],
  );
  const staged = new Map(
    [...sets].map(([id, artifacts]) => [id, artifacts.map(({ typeUrn }) => artifact(`${typeUrn}!`))]),
  );
  const { environments } = withStagedDependencies(graph, staged);
  const names = (artifacts: readonly ArtifactSpec[] = []) => artifacts.map(({ typeUrn }) => typeUrn);
  t.deepEqual(names(environments["any"]?.dependencies), ["a!", "b!"]);
  t.deepEqual(names(environments["plain"]?.dependencies), ["c!"]);
  const inner = AnyOfEnvironmentPayload.decode(environments["any"]?.payload ?? new Uint8Array()).environments;
  t.deepEqual(
    inner.map(({ dependencies }) => names(dependencies)),
    [["a!", "b!"], ["a!"]],
  );
});
