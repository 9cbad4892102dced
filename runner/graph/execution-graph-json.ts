/**
 * The execution graph as bytes, for workers and for the job store: JSON in UTF-8, byte strings as {"$bytes": base64}.
 * What is undefined is left out and is undefined again after decoding.
 */
import { WeirError } from "../base/errors.ts";
import type { ExecutionGraph } from "./execution-graph.ts";

export function encodeExecutionGraph(graph: ExecutionGraph): Uint8Array {
  // Not `value`: a Buffer's own toJSON has turned it into an object by then.
  const json = JSON.stringify(graph, replace);
  return new TextEncoder().encode(json);
}

/** @throws WeirError INTERNAL when the bytes are no encoded graph. */
export function decodeExecutionGraph(bytes: Uint8Array): ExecutionGraph {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes), revive) as ExecutionGraph;
  } catch (thrown) {
    const message = `The ${bytes.byteLength} bytes given as an execution graph are none.`;
    throw new WeirError({ code: "INTERNAL", domain: "internal", message, cause: thrown });
  }
}

/** Looks at the property itself: what a Buffer's own toJSON has made of it comes as `value`. */
function replace(this: unknown, key: string, value: unknown): unknown {
  const original = (this as Readonly<Record<string, unknown>>)[key];
  if (!(original instanceof Uint8Array)) return value;
  return { $bytes: Buffer.from(original.buffer, original.byteOffset, original.byteLength).toString("base64") };
}

function revive(this: unknown, _key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("$bytes" in value)) return value;
  const { $bytes } = value;
  return typeof $bytes === "string" ? new Uint8Array(Buffer.from($bytes, "base64")) : value;
}
