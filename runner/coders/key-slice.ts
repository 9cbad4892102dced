/**
 * Where key and value of an encoded windowed KV lie, read in place.
 *
 * Source: beam:coder:kv:v1 of beam_runner_api.proto: the key, then the value, both nested.
 */
import { WeirError } from "../base/errors.ts";
import type { CoderTable } from "../graph/execution-graph.ts";
import { compileSkip, componentOf, type Skip } from "./element-boundary.ts";
import { newHeader, type WindowedValueHeader, WindowedValueLayout } from "./windowed-value.ts";

/** Positions of the element that was read last: the key is [header.valueStart, keyEnd), the value [keyEnd, end). */
export interface KeyedPositions {
  readonly header: WindowedValueHeader;
  keyEnd: number;
  end: number;
}

export function newKeyedPositions(): KeyedPositions {
  return { header: newHeader(), keyEnd: 0, end: 0 };
}

export class KeyedLayout {
  readonly windowed: WindowedValueLayout;
  /** Over the key, from the start of the windowed value's value. */
  readonly keySkip: Skip;
  /** Over the KV's value, from the end of the key. */
  readonly valueSkip: Skip;

  /** @throws WeirError naming the coder when it is not a windowed value of a KV that the runner can walk. */
  constructor(coders: CoderTable, coderId: string) {
    this.windowed = new WindowedValueLayout(coders, coderId);
    const { valueCoderId } = this.windowed;
    const kv = coders[valueCoderId];
    const what = `"${valueCoderId}" (${kv?.urn ?? "not defined"})`;
    if (kv?.urn !== "beam:coder:kv:v1")
      throw new WeirError({
        code: "INVALID_ARGUMENT",
        domain: "user",
        message: `What is grouped by key must be encoded as a KV; coder ${what} is none.`,
      });
    this.keySkip = compileSkip(coders, componentOf(kv, 0, what));
    this.valueSkip = compileSkip(coders, componentOf(kv, 1, what));
  }

  /** Fills `into` for the element at `position`. @returns the position after it. @throws WeirError DATA_LOSS. */
  read(bytes: Uint8Array, position: number, into: KeyedPositions): number {
    this.windowed.readHeader(bytes, position, into.header);
    into.keyEnd = this.keySkip(bytes, into.header.valueStart);
    into.end = this.valueSkip(bytes, into.keyEnd);
    return into.end;
  }
}
