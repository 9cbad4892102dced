/** windowed_value<bytes> of the one empty element of an Impulse: minimum timestamp, global window, unknown pane. */
export const IMPULSE_ELEMENT = Uint8Array.from([
  // -9223372036854775 ms, sign bit flipped, big-endian.
  0x7f, 0xdf, 0x3b, 0x64, 0x5a, 0x1c, 0xac, 0x09,
  // One window (global: no bytes), pane 0x0f (no firing), empty bytes.
  0, 0, 0, 1, 0x0f, 0,
]);
