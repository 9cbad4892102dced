/**
 * The execution graph as bytes, for workers and for the job store: JSON in UTF-8, byte strings as {"$bytes": base64}.
 * What is undefined is left out and is undefined again after decoding.
 */
import { WeirError } from "../base/errors.ts";
import type { ExecutionGraph } from "./execution-graph.ts";

export function encodeExecutionGraph(graph: ExecutionGraph): Uint8Array {
  // Not `value`: a Buffer's own toJSON has turned it into an object by then.
  const json = JSON.stringify(graph, function replace(this: Record<string, unknown>, key: string, value: unknown) {
    const raw = this[key];
    return raw instanceof Uint8Array
      ? { $bytes: Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString("base64") }
      : value;
  });
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

function revive(this: unknown, _key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("$bytes" in value)) return value;
  const { $bytes } = value;
  return typeof $bytes === "string" ? new Uint8Array(Buffer.from($bytes, "base64")) : value;
}
