/**
 * The newest deltas of a chain, as long as they have not been folded into one: how many there are and which rows are in
 * them, so that these can be written again, as they are then, in one file that takes the place of all.
 *
 * Invariant: memory is bounded; a run whose rows are too many to be remembered cannot be folded.
 */
import type { ChangedRow } from "./state-delta.ts";

/** Of one task: some 20 MB of sets, the strings are those of the rows. */
const MAX_KEYS = 200_000;

/** By table. */
export type RowKeys = ReadonlyMap<string, ReadonlySet<string>>;

export class DeltaRun {
  readonly #maxKeys: number;
  #keys: Map<string, Set<string>> | undefined = new Map();
  #keyCount = 0;
  #length = 0;

  constructor(maxKeys = MAX_KEYS) {
    this.#maxKeys = maxKeys;
  }

  /** Deltas in it. */
  get length(): number {
    return this.#length;
  }

  /** The rows that are in any of them; undefined when they are not known. */
  get keys(): RowKeys | undefined {
    return this.#keys;
  }

  /** The rows of one more delta, noted as they are read: its file is being written. */
  *noting(rows: Iterable<ChangedRow>): Iterable<ChangedRow> {
    for (const row of rows) {
      this.#note(row);
      yield row;
    }
  }

  // What a write that fails has noted only makes a folded delta larger.
  #note({ table, key }: ChangedRow): void {
    if (this.#keys === undefined) return;
    let keys = this.#keys.get(table);
    if (keys === undefined) this.#keys.set(table, (keys = new Set()));
    const { size } = keys;
    keys.add(key);
    this.#keyCount += keys.size - size;
    if (this.#keyCount > this.#maxKeys) this.#keys = undefined;
  }

  /** A delta was written. */
  grown(): void {
    this.#length++;
  }

  /** Begins anew, behind a file that has taken its place. */
  clear(): void {
    this.#keys = new Map();
    this.#keyCount = 0;
    this.#length = 0;
  }
}
