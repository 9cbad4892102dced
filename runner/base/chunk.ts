/** The unit of data that moves between tasks: whole encoded elements, never a part of one. */

export interface Chunk {
  /** Concatenated encoded windowed values. Immutable once handed on: whoever receives it may keep it. */
  readonly data: Uint8Array;
  readonly elementCount: number;
}
