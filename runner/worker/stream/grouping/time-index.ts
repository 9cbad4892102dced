/**
 * Items by time, and the least time that has any. Items of one time are kept in the order in which they came: as many
 * windows end together, most changes touch no heap. Times are in a binary heap; one whose items have all gone stays
 * there, empty, until it comes up or until such times are the most of the heap: O(log n), amortised.
 */

const MIN_COMPACTED = 64;

export class TimeIndex<Item> {
  /** The items of each time that is in the heap. */
  #items = new Map<number, Set<Item>>();
  #heap: number[] = [];
  #emptyCount = 0;

  /** The item is not there at that time. */
  add(time: number, item: Item): void {
    const items = this.#items.get(time);
    if (items === undefined) {
      this.#items.set(time, new Set([item]));
      this.#heap.push(time);
      this.#up(this.#heap.length - 1);
      return;
    }
    if (items.size === 0) this.#emptyCount--;
    items.add(item);
  }

  /** The item is there at that time. */
  remove(time: number, item: Item): void {
    const items = this.#items.get(time);
    if (items?.delete(item) !== true || items.size > 0) return;
    this.#emptyCount++;
    if (this.#emptyCount >= MIN_COMPACTED && this.#emptyCount * 2 >= this.#heap.length) this.#compact();
  }

  /** The least time that has items. */
  get min(): number | undefined {
    for (;;) {
      const [first] = this.#heap;
      if (first === undefined || (this.#items.get(first) as Set<Item>).size > 0) return first;
      this.#emptyCount--;
      this.#shift();
    }
  }

  /** Takes out the items of the least time. */
  takeMin(): Iterable<Item> {
    const time = this.min;
    if (time === undefined) return [];
    const items = this.#items.get(time) as Set<Item>;
    this.#shift();
    return items;
  }

  #shift(): void {
    const heap = this.#heap;
    this.#items.delete(heap[0] as number);
    const last = heap.pop() as number;
    if (heap.length === 0) return;
    heap[0] = last;
    this.#down(0);
  }

  #compact(): void {
    this.#heap = this.#heap.filter((time) => {
      if ((this.#items.get(time) as Set<Item>).size > 0) return true;
      this.#items.delete(time);
      return false;
    });
    this.#emptyCount = 0;
    for (let index = (this.#heap.length >>> 1) - 1; index >= 0; index--) this.#down(index);
  }

  #up(from: number): void {
    const heap = this.#heap;
    const time = heap[from] as number;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      const above = heap[parent] as number;
      if (above <= time) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = time;
  }

  #down(from: number): void {
    const heap = this.#heap;
    const time = heap[from] as number;
    let at = from;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && (heap[child + 1] as number) < (heap[child] as number)) child++;
      if ((heap[child] as number) >= time) break;
      heap[at] = heap[child] as number;
      at = child;
    }
    heap[at] = time;
  }
}
