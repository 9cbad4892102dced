/**
 * Window groups by encoded window and key: open addressing over the bytes of the element, so that finding the group
 * of an element makes no string and no object.
 */
import type { WindowGroup } from "./window-group.ts";

const FIRST_SLOTS = 256;

export class GroupTable {
  #slots: (WindowGroup | undefined)[] = new Array<WindowGroup | undefined>(FIRST_SLOTS).fill(undefined);
  #count = 0;

  get size(): number {
    return this.#count;
  }

  /** @param hash of the window and the key, which may lie apart in the bytes */
  find(
    hash: number,
    bytes: Uint8Array,
    windowStart: number,
    windowEnd: number,
    keyStart: number,
    keyEnd: number,
  ): WindowGroup | undefined {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const group = slots[slot];
      if (group === undefined) return undefined;
      if (group.hash === hash && isOf(group, bytes, windowStart, windowEnd, keyStart, keyEnd)) return group;
    }
  }

  /** A group that is not there. */
  insert(group: WindowGroup): void {
    if ((this.#count + 1) * 2 > this.#slots.length) this.#grow();
    this.#count++;
    place(this.#slots, group);
  }

  /** A group that is there. */
  remove(group: WindowGroup): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let hole = group.hash & mask;
    while (slots[hole] !== group) {
      if (slots[hole] === undefined) return;
      hole = (hole + 1) & mask;
    }
    this.#count--;
    // Closes the gap, so that a search may stop at the first empty slot.
    for (let slot = (hole + 1) & mask; ; slot = (slot + 1) & mask) {
      const next = slots[slot];
      if (next === undefined) break;
      if (((slot - (next.hash & mask)) & mask) < ((slot - hole) & mask)) continue;
      slots[hole] = next;
      hole = slot;
    }
    slots[hole] = undefined;
  }

  #grow(): void {
    const slots = new Array<WindowGroup | undefined>(this.#slots.length * 2).fill(undefined);
    for (const group of this.#slots) if (group !== undefined) place(slots, group);
    this.#slots = slots;
  }
}

function place(slots: (WindowGroup | undefined)[], group: WindowGroup): void {
  const mask = slots.length - 1;
  let slot = group.hash & mask;
  while (slots[slot] !== undefined) slot = (slot + 1) & mask;
  slots[slot] = group;
}

function isOf(
  { id, windowLength }: WindowGroup,
  bytes: Uint8Array,
  windowStart: number,
  windowEnd: number,
  keyStart: number,
  keyEnd: number,
): boolean {
  if (windowLength !== windowEnd - windowStart || id.length - windowLength !== keyEnd - keyStart) return false;
  for (let index = 0; index < windowLength; index++) if (id[index] !== bytes[windowStart + index]) return false;
  const shift = keyStart - windowLength;
  for (let index = windowLength; index < id.length; index++) if (id[index] !== bytes[shift + index]) return false;
  return true;
}
