/**
 * The encoded input of one bundle, retained until the bundle has committed, so that the same input can run again.
 * An accepted split cuts it in two: what stays this bundle's input and what became independent input at once.
 *
 * Source: ProcessBundleSplitResponse of beam_fn_api.proto (last_primary_element, first_residual_element, roots).
 */
import { assert } from "../../base/assert.ts";
import type { Chunk } from "../../base/chunk.ts";
import type { Skip } from "../../coders/element-boundary.ts";

export interface BundleInput {
  readonly chunks: readonly Chunk[];
  readonly elementCount: number;
  readonly byteLength: number;
  /** Clock.nowMs() before which it must not run: a deferred remainder. 0 = at once. */
  readonly notBeforeMs: number;
}

export function bundleInputOf(chunks: readonly Chunk[], notBeforeMs = 0): BundleInput {
  let elementCount = 0;
  let byteLength = 0;
  for (const chunk of chunks) {
    elementCount += chunk.elementCount;
    byteLength += chunk.data.length;
  }
  return { chunks, elementCount, byteLength, notBeforeMs };
}

/** The first `count` elements, and the rest. Subarrays: nothing is copied. */
export function cutChunks(chunks: readonly Chunk[], count: number, skip: Skip): { head: Chunk[]; tail: Chunk[] } {
  const head: Chunk[] = [];
  const tail: Chunk[] = [];
  let left = count;
  for (const chunk of chunks) {
    if (left >= chunk.elementCount) {
      head.push(chunk);
      left -= chunk.elementCount;
    } else if (left <= 0) {
      tail.push(chunk);
    } else {
      let position = 0;
      for (let index = 0; index < left; index++) position = skip(chunk.data, position);
      head.push({ data: chunk.data.subarray(0, position), elementCount: left });
      tail.push({ data: chunk.data.subarray(position), elementCount: chunk.elementCount - left });
      left = 0;
    }
  }
  return { head, tail };
}

/**
 * The retained input after a split that the SDK accepted.
 * @param primaryRoots encoded elements that replace the split element on this bundle's side
 */
export function splitInput(
  input: BundleInput,
  split: { readonly lastPrimaryElement: number; readonly firstResidualElement: number },
  primaryRoots: readonly Uint8Array[],
  skip: Skip,
): { primary: BundleInput; residualChannel: BundleInput } {
  assert(split.firstResidualElement > split.lastPrimaryElement, "a split's residual begins after its primary");
  const kept = cutChunks(input.chunks, split.lastPrimaryElement + 1, skip).head;
  const residual = cutChunks(input.chunks, split.firstResidualElement, skip).tail;
  const roots = primaryRoots.map((data): Chunk => ({ data, elementCount: 1 }));
  return { primary: bundleInputOf([...kept, ...roots]), residualChannel: bundleInputOf(residual) };
}

/**
 * Cuts a stream of chunks into bundle inputs of at most `maxBytes` (a single larger element excepted) and
 * `maxElements`.
 */
export async function* cutBundles(
  source: AsyncIterable<Chunk>,
  limits: { readonly maxBytes: number; readonly maxElements: number },
  skip: Skip,
): AsyncGenerator<BundleInput> {
  let held: Chunk[] = [];
  let elements = 0;
  let bytes = 0;
  for await (const arrived of source) {
    let chunk = arrived;
    while (elements + chunk.elementCount > limits.maxElements) {
      const { head, tail } = cutChunks([chunk], limits.maxElements - elements, skip);
      yield bundleInputOf([...held, ...head]);
      held = [];
      elements = 0;
      bytes = 0;
      const rest = tail[0];
      if (rest === undefined) break;
      chunk = rest;
    }
    if (chunk.elementCount === 0) continue;
    if (bytes > 0 && bytes + chunk.data.length > limits.maxBytes) {
      yield bundleInputOf(held);
      held = [];
      elements = 0;
      bytes = 0;
    }
    held.push(chunk);
    elements += chunk.elementCount;
    bytes += chunk.data.length;
  }
  if (elements > 0) yield bundleInputOf(held);
}
