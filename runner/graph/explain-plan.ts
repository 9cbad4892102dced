/**
 * The plan as text for people: vertices by dependency, what they read, run and write. It is what `weir plan` prints
 * and what golden files hold, hence it names nothing that differs from run to run.
 */
import type { DatasetId } from "../base/ids.ts";
import { ProcessBundleDescriptor } from "../../proto/gen/beam_fn_api.ts";
import type { ExecutableStageSpec, ExecutionGraph, HeadSpec, VertexSpec, WindowingSpec } from "./execution-graph.ts";

export function explainPlan(graph: ExecutionGraph): string {
  const lines = graph.vertices.flatMap((vertex) => [...explainVertex(graph, vertex), ""]);
  const windowings = Object.entries(graph.windowings);
  if (windowings.length > 0)
    lines.push("windowings", ...windowings.map(([id, spec]) => `  ${id}: ${windowing(spec, graph)}`));
  const environments = Object.entries(graph.environments);
  if (environments.length > 0) {
    lines.push("environments", ...environments.map(([id, environment]) => `  ${id}: ${environment.urn}`));
  }
  return `${lines.join("\n")}\n`;
}

function explainVertex(graph: ExecutionGraph, vertex: VertexSpec): string[] {
  const flags = [vertex.keyed ? "keyed" : "", vertex.singleton ? "one subtask" : ""].filter((flag) => flag !== "");
  return [
    `${vertex.id} ${vertex.name}${flags.length === 0 ? "" : ` [${flags.join(", ")}]`}`,
    `  head ${head(vertex.head, graph)}`,
    ...vertex.inputs.map((id) => `  in   ${dataset(graph, id)}`),
    ...(vertex.stage === undefined ? [] : explainStage(graph, vertex.stage)),
    ...vertex.headOutputs.map((id) => `  out  ${dataset(graph, id)}`),
  ];
}

function explainStage(graph: ExecutionGraph, stage: ExecutableStageSpec): string[] {
  const flags = [
    stage.splittable ? "splittable" : "",
    stage.truncate === undefined ? "" : "truncates on drain",
    stage.requiresStableInput ? "stable input" : "",
    stage.requiresTimeSortedInput ? "time-sorted input" : "",
    stage.requiresBundleFinalization ? "bundle finalization" : "",
  ].filter((flag) => flag !== "");
  const descriptor = ProcessBundleDescriptor.decode(stage.descriptor);
  const counts = `${Object.keys(descriptor.pcollections).length} PCollections, ${Object.keys(descriptor.coders).length} coders`;
  return [
    `  run in ${stage.environmentId}${flags.length === 0 ? "" : ` [${flags.join(", ")}]`} (descriptor: ${counts})`,
    `    <- ${coder(graph, stage.inputCoderId)}`,
    ...stage.transforms.map((transform) => `    ${transform.uniqueName} (${transform.urn}) ${transform.id}`),
    ...stage.sideInputs.map(
      (side) =>
        `    side input ${side.transformId}.${side.localName} (${side.accessPatternUrn}) = ${side.datasets.join(" + ")}`,
    ),
    ...stage.userStates.map(
      (state) => `    state ${state.transformId}.${state.localName} (${state.protocolUrn}) in ${state.windowingId}`,
    ),
    ...stage.timers.map(
      (timer) =>
        `    timer ${timer.transformId}.${timer.timerFamilyId} ${timer.timeDomain} ${coder(graph, timer.coderId)} in ${timer.windowingId}${timer.onWindowExpiration ? ", on window expiration" : ""}`,
    ),
    ...stage.sinks.flatMap((sink) => sink.datasets.map((id) => `  out  ${dataset(graph, id)}`)),
  ];
}

function dataset(graph: ExecutionGraph, id: DatasetId): string {
  const spec = graph.datasets[id];
  if (spec === undefined) return `${id} (missing)`;
  const sized = spec.sizedRestrictions ? " by restriction size" : "";
  const unbounded = spec.unbounded ? " unbounded" : "";
  return `${id} ${spec.partitioner}${sized}${unbounded} ${spec.pcollectionId}: ${coder(graph, spec.coderId)}`;
}

function head(spec: HeadSpec, graph: ExecutionGraph): string {
  if (spec.kind === "test-stream") {
    const outputs = spec.outputs.map(({ tag, datasets }) => `${tag} -> ${datasets.join(" + ") || "nobody"}`);
    return `${spec.kind} ${outputs.join(", ")}`;
  }
  if (spec.kind !== "group-by-key") return spec.kind;
  const merge = spec.mergeWindows === undefined ? "" : `, windows merged in ${spec.mergeWindows.environmentId}`;
  return `group-by-key in ${spec.windowingId}${merge} -> ${coder(graph, spec.outputCoderId)}`;
}

function windowing(spec: WindowingSpec, graph: ExecutionGraph): string {
  const merging = spec.merging ? ", merging" : "";
  return (
    `${spec.windowFnUrn}${merging}, ${coder(graph, spec.windowCoderId)}, ${spec.timestampCombiner}, ` +
    `${spec.accumulationMode}, lateness ${spec.allowedLatenessMs} ms`
  );
}

const DEEPEST_CODER = 12;

/** "windowed_value<kv<bytes, length_prefix>, global_window>". */
function coder(graph: ExecutionGraph, id: string, depth = 0): string {
  const spec = graph.coders[id];
  if (spec === undefined) return `${id} (missing)`;
  const name = /^beam:coder:(.*):v1$/.exec(spec.urn)?.[1] ?? spec.urn;
  if (spec.components.length === 0) return name;
  if (depth === DEEPEST_CODER) return `${name}<…>`;
  return `${name}<${spec.components.map((component) => coder(graph, component, depth + 1)).join(", ")}>`;
}
