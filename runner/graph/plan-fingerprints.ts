/** What of a plan a snapshot has to fit to, as SHA-256 in lower-case hex. Pure. */
import { createHash } from "node:crypto";
import type { CoderTable, ExecutionGraph } from "./execution-graph.ts";
import { encodeExecutionGraph } from "./execution-graph-json.ts";

type Environments = ExecutionGraph["environments"];

/** Of all of it, the user's functions too. Where its staged files are is no part of what a snapshot fits to. */
export function fingerprintOf(graph: ExecutionGraph): string {
  const environments = Object.entries(graph.environments).map(([id, spec]) => [id, { ...spec, dependencies: [] }]);
  return hashOf(encodeExecutionGraph({ ...graph, environments: Object.fromEntries(environments) as Environments }));
}

/**
 * Of its stages, by transforms and their ids, and the channels between them with what they carry: data that was in
 * flight in one plan can go on in another one with the same. Two submissions of one script have the same, although their
 * functions, as the SDK pickles them, may differ in bytes.
 */
export function channelFingerprintOf(graph: ExecutionGraph): string {
  const vertices = graph.vertices.map(({ id, name, head, inputs, headOutputs, stage }) => ({
    id,
    name,
    head: head.kind,
    inputs,
    headOutputs,
    transforms: stage?.transforms.map((transform) => [transform.id, transform.uniqueName]),
    sinks: stage?.sinks.map(({ transformId, datasets }) => [transformId, datasets]),
    sideInputs: stage?.sideInputs.map(({ transformId, localName, datasets }) => [transformId, localName, datasets]),
  }));
  const datasets = Object.values(graph.datasets).map(({ id, producer, partitioner, coderId }) => ({
    id,
    producer,
    partitioner,
    coder: coderText(graph.coders, coderId),
  }));
  return hashOf(JSON.stringify({ vertices, datasets }));
}

function coderText(coders: CoderTable, id: string): string {
  const coder = coders[id];
  if (coder === undefined) return "unknown";
  return `${coder.urn}<${coder.components.map((component) => coderText(coders, component)).join(", ")}>`;
}

function hashOf(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}
