/**
 * Maps windows of main input to those of a side input in the SDK harness, by one small bundle of the transform
 * beam:transform:map_windows:v1: in goes KV<nonce, main window>, out comes KV<nonce, side window>, in order.
 */
import { Buffer } from "node:buffer";
import { WeirError } from "../../base/errors.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import { BundleAttempt } from "./bundle-attempt.ts";
import { bundleInputOf } from "./bundle-input.ts";
import { EMPTY_NONCE_HEADER, type WindowMergerInit } from "./merge-windows.ts";

/** @returns for each window the one that it is mapped to, encoded */
export type WindowMapper = (windows: readonly Uint8Array[], signal: AbortSignal) => Promise<Uint8Array[]>;

/** @param init its `windowSkip` is over windows of the side input */
export function createWindowMapper(init: WindowMergerInit): WindowMapper {
  return async (windows, signal) => {
    const elements = windows.map((window) => Buffer.concat([EMPTY_NONCE_HEADER, window]));
    const outputs: Uint8Array[] = [];
    const harness = await init.harness(signal);
    const attempt = new BundleAttempt(
      harness,
      {
        descriptorId: init.descriptorId,
        sourceTransformId: init.sourceTransformId,
        sinkTransformIds: [init.sinkTransformId],
        chunkBytes: init.chunkBytes,
        skip: (bytes) => bytes.length,
      },
      bundleInputOf(elements.map((data) => ({ data, elementCount: 1 }))),
      {
        onOutput: (_sink, data) => {
          outputs.push(data);
        },
        onState: () => {
          throw new WeirError({ code: "INTERNAL", domain: "internal", message: "Mapping windows reads no state." });
        },
      },
    );
    await attempt.run(signal);
    const mapped = decodeMapped(Buffer.concat(outputs), init.windowSkip);
    if (mapped.length !== windows.length)
      throw new WeirError({
        code: "INTERNAL",
        domain: "external",
        message: `The SDK mapped ${windows.length} windows of main input to ${mapped.length} of a side input.`,
      });
    return mapped;
  };
}

/** The windows of windowed KV<nonce, window> one after the other. @param windowSkip over a window */
export function decodeMapped(bytes: Uint8Array, windowSkip: Skip): Uint8Array[] {
  const windows: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const start = at + EMPTY_NONCE_HEADER.length;
    at = windowSkip(bytes, start);
    windows.push(bytes.slice(start, at));
  }
  return windows;
}
