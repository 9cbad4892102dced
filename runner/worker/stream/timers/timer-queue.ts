/**
 * Timers of one time domain in the order in which they fire. The timers of a cell, a key in a window, may set and clear
 * each other, so that only the earliest of a cell can be taken at a time; cells know nothing of each other. Hence a
 * queue of cells, each with a queue of its timers: taking the first of each cell never looks at those behind it.
 *
 * Order: due time, then key and window (as bytes), then family, then dynamic tag; what tells of a window's expiration
 * comes after all others of its cell that are due at the same time.
 */
import type { Timestamp } from "../../../time/timestamp.ts";
import { type HeapItem, IndexedHeap } from "./indexed-heap.ts";
import type { TimerFamily } from "./timer-family.ts";

/** A timer that is set. */
export interface SetTimer extends HeapItem {
  readonly family: TimerFamily;
  /** Its identity, and the key of its row. */
  readonly rowKey: string;
  /** Key and window, as bytes. */
  readonly cellId: string;
  readonly windowBytes: number;
  /** Event time or milliseconds of processing time. */
  readonly due: number;
  readonly hold: Timestamp;
  /** It was taken, and its bundle has not ended. */
  firing: boolean;
}

interface Cell extends HeapItem {
  readonly id: string;
  readonly timers: IndexedHeap<SetTimer>;
  /** Of its first timer: looked at far more often than it changes. */
  due: number;
}

export class TimerQueue {
  readonly #cells = new Map<string, Cell>();
  readonly #order = new IndexedHeap<Cell>((a, b) => (a.due === b.due ? a.id < b.id : a.due < b.due));

  /** When the first is due; undefined when there is none. */
  get nextDue(): number | undefined {
    return this.#order.first?.due;
  }

  add(timer: SetTimer): void {
    const cell = this.#cells.get(timer.cellId);
    if (cell !== undefined) {
      cell.timers.add(timer);
      cell.due = firstDue(cell);
      this.#order.moved(cell);
      return;
    }
    const added: Cell = { id: timer.cellId, timers: new IndexedHeap(isBefore), due: timer.due, heapIndex: -1 };
    added.timers.add(timer);
    this.#cells.set(added.id, added);
    this.#order.add(added);
  }

  /** Idempotent. */
  remove(timer: SetTimer): void {
    const cell = this.#cells.get(timer.cellId);
    if (cell === undefined || timer.heapIndex < 0) return;
    cell.timers.remove(timer);
    if (cell.timers.size > 0) {
      cell.due = firstDue(cell);
      return this.#order.moved(cell);
    }
    this.#cells.delete(cell.id);
    this.#order.remove(cell);
  }

  /**
   * Takes timers that are due, of each cell only the earliest and those that are due at the same time, and adds them
   * to `taken`.
   * @param busyCells cells of which nothing can be taken; those of the timers taken are added
   */
  takeDue(now: number, maxCount: number, busyCells: Set<string>, taken: SetTimer[]): void {
    const visited: Cell[] = [];
    for (let cell = this.#order.first; cell !== undefined && taken.length < maxCount; cell = this.#order.first) {
      if (cell.due > now) break;
      this.#order.remove(cell);
      visited.push(cell);
      if (busyCells.has(cell.id)) continue;
      busyCells.add(cell.id);
      takeEarliest(cell, maxCount, taken);
    }
    for (const cell of visited)
      if (cell.timers.size > 0) {
        cell.due = firstDue(cell);
        this.#order.add(cell);
      } else this.#cells.delete(cell.id);
  }
}

function takeEarliest({ timers }: Cell, maxCount: number, taken: SetTimer[]): void {
  const before = taken.length;
  const due = timers.first?.due;
  for (let timer = timers.first; timer !== undefined && timer.due === due; timer = timers.first) {
    // The others may set more that come before the window's expiration.
    if (taken.length >= maxCount || (timer.family.onWindowExpiration && taken.length > before)) return;
    timers.remove(timer);
    taken.push(timer);
  }
}

function firstDue(cell: Cell): number {
  return cell.timers.first?.due ?? Infinity;
}

function isBefore(a: SetTimer, b: SetTimer): boolean {
  if (a.due !== b.due) return a.due < b.due;
  if (a.family !== b.family) return a.family.rank < b.family.rank;
  return a.rowKey < b.rowKey;
}
