/**
 * Merges the windows of a custom merging WindowFn in the SDK harness, by one small bundle of the transform
 * beam:transform:merge_windows:v1: in goes KV<nonce, Iterable<window>>, out comes
 * KV<nonce, KV<Iterable<unmerged>, Iterable<KV<merged, Iterable<consumed>>>>>.
 */
import { Buffer } from "node:buffer";
import { WeirError } from "../../base/errors.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import type { HarnessConnection } from "./harness-connection.ts";
import { BundleAttempt } from "./bundle-attempt.ts";
import { bundleInputOf } from "./bundle-input.ts";

export interface MergedWindow {
  readonly merged: Uint8Array;
  readonly consumed: Uint8Array[];
}

export interface WindowMerger {
  /** Windows as encoded on the wire; each comes back in exactly one `consumed`, or stays as it was. */
  merge(windows: readonly Uint8Array[], signal: AbortSignal): Promise<MergedWindow[]>;
}

export interface WindowMergerInit {
  readonly descriptorId: string;
  readonly sourceTransformId: string;
  readonly sinkTransformId: string;
  readonly windowSkip: Skip;
  readonly chunkBytes: number;
  readonly harness: (signal: AbortSignal) => Promise<HarnessConnection>;
}

/** timestamp 0 (sign bit flipped), one global window, unknown pane; the nonce is the empty byte string. */
export const EMPTY_NONCE_HEADER = Uint8Array.from([0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x0f, 0]);

export function createWindowMerger(init: WindowMergerInit): WindowMerger {
  return {
    async merge(windows, signal) {
      const count = Buffer.alloc(4);
      count.writeInt32BE(windows.length);
      const element = Buffer.concat([EMPTY_NONCE_HEADER, count, ...windows]);
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
        bundleInputOf([{ data: element, elementCount: 1 }]),
        {
          onOutput: (_sink, data) => {
            outputs.push(data);
          },
          onState: () => {
            throw new WeirError({ code: "INTERNAL", domain: "internal", message: "Merging windows reads no state." });
          },
        },
      );
      await attempt.run(signal);
      return decodeMerged(Buffer.concat(outputs), init.windowSkip);
    },
  };
}

/** Parses one windowed KV<nonce, KV<Iterable<W>, Iterable<KV<W, Iterable<W>>>>>. */
function decodeMerged(bytes: Uint8Array, windowSkip: Skip): MergedWindow[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = EMPTY_NONCE_HEADER.length;
  const readWindow = (): Uint8Array => {
    const start = at;
    at = windowSkip(bytes, at);
    return bytes.slice(start, at);
  };
  const readIterable = <Item>(readItem: () => Item): Item[] => {
    const count = view.getInt32(at);
    at += 4;
    const items: Item[] = [];
    if (count >= 0) {
      for (let index = 0; index < count; index++) items.push(readItem());
      return items;
    }
    // Unknown length: varint-counted runs until an empty one.
    for (;;) {
      let run = 0;
      let scale = 1;
      for (;;) {
        const byte = view.getUint8(at++);
        run += (byte & 0x7f) * scale;
        if (byte < 0x80) break;
        scale *= 128;
      }
      if (run === 0) return items;
      for (let index = 0; index < run; index++) items.push(readItem());
    }
  };
  const unmerged = readIterable(readWindow);
  const merged = readIterable((): MergedWindow => {
    const target = readWindow();
    return { merged: target, consumed: readIterable(readWindow) };
  });
  return [...merged, ...unmerged.map((window): MergedWindow => ({ merged: window, consumed: [window] }))];
}
