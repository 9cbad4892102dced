/** The least of a multiset of timestamps that comes and goes with timers, or with residuals: O(log n) in the number of distinct ones. */
import { MAX_TIMESTAMP, type Timestamp } from "../../../time/timestamp.ts";
import { type HeapItem, IndexedHeap } from "./indexed-heap.ts";

interface Hold extends HeapItem {
  readonly timestamp: Timestamp;
  count: number;
}

export class TimerHolds {
  readonly #holds = new Map<Timestamp, Hold>();
  readonly #order = new IndexedHeap<Hold>((a, b) => a.timestamp < b.timestamp);

  get least(): Timestamp {
    return this.#order.first?.timestamp ?? MAX_TIMESTAMP;
  }

  add(timestamp: Timestamp): void {
    const hold = this.#holds.get(timestamp);
    if (hold !== undefined) {
      hold.count++;
      return;
    }
    const added = { timestamp, count: 1, heapIndex: -1 };
    this.#holds.set(timestamp, added);
    this.#order.add(added);
  }

  /** One that was added. */
  remove(timestamp: Timestamp): void {
    const hold = this.#holds.get(timestamp);
    if (hold === undefined || --hold.count > 0) return;
    this.#holds.delete(timestamp);
    this.#order.remove(hold);
  }
}
