/**
 * The execution graph as bytes, for workers and for the job store: JSON in UTF-8, byte strings as {"$bytes": base64}.
 * What is undefined is left out and is undefined again after decoding.
 */
import { WeirError } from "../base/errors.ts";
import type { ExecutionGraph } from "./execution-graph.ts";

export function encodeExecutionGraph(graph: ExecutionGraph): Uint8Array {
  const json = JSON.stringify(graph, (_key, value: unknown) =>
    value instanceof Uint8Array
      ? { $bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") }
      : value,
  );
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
