/**
 * Which artifacts the environments of a plan depend on, and the plan with the staged ones in their place. An AnyOf
 * environment's alternatives carry dependencies of their own, in its payload. Pure.
 */
import { AnyOfEnvironmentPayload } from "../../proto/gen/beam_runner_api.ts";
import type { ArtifactSpec, EnvironmentSpec, ExecutionGraph } from "../graph/execution-graph.ts";
import type { DependencySets } from "./artifact-staging.ts";

const ANY_OF_URN = "beam:env:anyof:v1";

type Holder = Pick<EnvironmentSpec, "urn" | "payload" | "dependencies">;

/** Environment id → dependencies; alternatives of an AnyOf are `ID/INDEX`, and so on inwards. */
export function dependencySets(environments: ExecutionGraph["environments"]): DependencySets {
  const sets = new Map<string, readonly ArtifactSpec[]>();
  const visit = (id: string, environment: Holder) => {
    sets.set(id, environment.dependencies);
    if (environment.urn !== ANY_OF_URN) return;
    const { environments: alternatives } = AnyOfEnvironmentPayload.decode(environment.payload);
    alternatives.forEach((alternative, index) => visit(`${id}/${index}`, alternative));
  };
  for (const [id, environment] of Object.entries(environments)) visit(id, environment);
  return sets;
}

/**
 * The graph with staged dependencies. An AnyOf environment depends on those of all its alternatives, since which one
 * will run is not known before a worker has tried.
 */
export function withStagedDependencies(graph: ExecutionGraph, staged: DependencySets): ExecutionGraph {
  const replaced = <Kind extends Holder>(id: string, environment: Kind): Kind => {
    const own = staged.get(id) ?? environment.dependencies;
    if (environment.urn !== ANY_OF_URN) return { ...environment, dependencies: own };
    const { environments } = AnyOfEnvironmentPayload.decode(environment.payload);
    const alternatives = environments.map((alternative, index) => replaced(`${id}/${index}`, alternative));
    const payload = AnyOfEnvironmentPayload.encode({ environments: alternatives }).finish();
    const dependencies = distinct([...own, ...alternatives.flatMap((alternative) => alternative.dependencies)]);
    return { ...environment, payload, dependencies };
  };
  const environments = Object.fromEntries(
    Object.entries(graph.environments).map(([id, environment]) => [id, replaced(id, environment)]),
  );
  return { ...graph, environments };
}

function distinct(artifacts: readonly ArtifactSpec[]): ArtifactSpec[] {
  const byContent = new Map<string, ArtifactSpec>();
  for (const artifact of artifacts) {
    const hex = [artifact.typePayload, artifact.rolePayload].map((bytes) => Buffer.from(bytes).toString("hex"));
    byContent.set([artifact.typeUrn, artifact.roleUrn, ...hex].join(" "), artifact);
  }
  return [...byContent.values()];
}
