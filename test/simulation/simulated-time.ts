/**
 * Time and chance of a simulation: a queue of what happens when, and one seeded source of all choices.
 *
 * Invariants: events run one after another in the order of their times, equal times in the order in which they were
 * planned; between two events every promise that can settle has settled. So a seed is a schedule, and the same seed
 * gives the same one again.
 */
import type { Clock } from "../../runner/base/clock.ts";

/** Seeded numbers (mulberry32). */
export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  }

  /** A whole number in [least, most]. */
  integer(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.integer(0, items.length - 1)];
    if (item === undefined) throw new Error("There is nothing to pick from.");
    return item;
  }

  /** Another source that this one determines: what one part draws does not change what others draw. */
  fork(): SeededRandom {
    return new SeededRandom(Math.floor(this.next() * 4294967296));
  }
}

interface PlannedEvent {
  readonly atMs: number;
  readonly order: number;
  run: (() => void) | undefined;
}

const START_MS = 1_700_000_000_000;

export class SimulatedTime implements Clock {
  readonly #events: PlannedEvent[] = [];
  #nowMs = START_MS;
  #order = 0;
  /** Events that have run. */
  eventCount = 0;

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  get elapsedMs(): number {
    return this.#nowMs - START_MS;
  }

  /** @returns how to call it off */
  at(delayMs: number, run: () => void): () => void {
    const event: PlannedEvent = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, run };
    this.#insert(event);
    return () => {
      event.run = undefined;
    };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const onAbort = () => {
        callOff();
        reject(signal?.reason as Error);
      };
      const callOff = this.at(delayMs, () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      });
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Runs events until `isOver`, or none is left, or so much time has passed. @returns why it ended */
  async run(isOver: () => boolean, limitMs: number): Promise<"over" | "nothing left" | "too long"> {
    for (;;) {
      await settled();
      if (isOver()) return "over";
      const event = this.#takeFirst();
      if (event === undefined) return "nothing left";
      if (event.run === undefined) continue;
      this.#nowMs = Math.max(this.#nowMs, event.atMs);
      if (this.elapsedMs > limitMs) return "too long";
      this.eventCount++;
      event.run();
    }
  }

  #insert(event: PlannedEvent): void {
    const heap = this.#events;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent] as PlannedEvent)) break;
      heap[at] = heap[parent] as PlannedEvent;
      at = parent;
    }
    heap[at] = event;
  }

  #takeFirst(): PlannedEvent | undefined {
    const heap = this.#events;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as PlannedEvent, heap[child] as PlannedEvent)) child++;
      if (!isBefore(heap[child] as PlannedEvent, last)) break;
      heap[at] = heap[child] as PlannedEvent;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(left: PlannedEvent, right: PlannedEvent): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.order < right.order);
}

/** Every promise that waits for nothing but promises has settled then. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
