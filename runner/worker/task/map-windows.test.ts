import test from "ava";
import { decodeMapped } from "./map-windows.ts";
import { EMPTY_NONCE_HEADER } from "./merge-windows.ts";

test("mapped windows come in order, whatever their length", (t) => {
  // A window is its length, and so many bytes.
  const windows = [Uint8Array.of(2, 7, 8), Uint8Array.of(0), Uint8Array.of(1, 9)];
  const bytes = Buffer.concat(windows.flatMap((window) => [EMPTY_NONCE_HEADER, window]));
  const mapped = decodeMapped(bytes, (data, position) => position + 1 + (data[position] ?? 0));
  t.deepEqual(
    mapped.map((window) => Uint8Array.from(window)),
    windows,
  );
});
