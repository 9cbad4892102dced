/**
 * What a trigger remembers about one key and window: which of its parts have finished, and the numbers of those that
 * count or wait. Plain data; the machines in this directory are functions over it.
 *
 * Encoding: the finished bits, eight to a byte; which slots are set, eight to a byte; the set slots as doubles. The
 * numbers of bytes follow from the trigger. Source: FinishedTriggersBitSet and the state tags of the Java reference.
 */

export interface TriggerState {
  /** One bit for each trigger of the tree, by its index. */
  readonly finished: number[];
  /** One number for each trigger that counts or waits; NaN where it does neither. */
  readonly slots: number[];
}

/** How large a trigger's state is. */
export interface TriggerStateSize {
  readonly triggerCount: number;
  readonly slotCount: number;
}

const WORD_BITS = 31;

export function newTriggerState({ triggerCount, slotCount }: TriggerStateSize): TriggerState {
  return {
    finished: new Array<number>(Math.ceil(triggerCount / WORD_BITS)).fill(0),
    slots: new Array<number>(slotCount).fill(Number.NaN),
  };
}

export function copyTriggerState({ finished, slots }: TriggerState): TriggerState {
  return { finished: [...finished], slots: [...slots] };
}

export function isFinished({ finished }: TriggerState, index: number): boolean {
  return (((finished[Math.floor(index / WORD_BITS)] as number) >>> (index % WORD_BITS)) & 1) === 1;
}

export function setFinished({ finished }: TriggerState, index: number, value: boolean): void {
  const word = Math.floor(index / WORD_BITS);
  const bit = 1 << (index % WORD_BITS);
  const old = finished[word] as number;
  finished[word] = value ? old | bit : old & ~bit;
}

export function encodeTriggerState(state: TriggerState, { triggerCount, slotCount }: TriggerStateSize): Uint8Array {
  const finishedBytes = Math.ceil(triggerCount / 8);
  const slotsStart = finishedBytes + Math.ceil(slotCount / 8);
  const set = state.slots.filter((slot) => !Number.isNaN(slot));
  const bytes = new Uint8Array(slotsStart + set.length * 8);
  for (let index = 0; index < triggerCount; index++)
    if (isFinished(state, index)) bytes[index >>> 3] = (bytes[index >>> 3] as number) | (1 << (index & 7));
  state.slots.forEach((slot, index) => {
    const at = finishedBytes + (index >>> 3);
    if (!Number.isNaN(slot)) bytes[at] = (bytes[at] as number) | (1 << (index & 7));
  });
  const view = new DataView(bytes.buffer);
  set.forEach((slot, index) => view.setFloat64(slotsStart + index * 8, slot));
  return bytes;
}

/** The state at `position`; it ends with the bytes. */
export function decodeTriggerState(
  bytes: Uint8Array,
  position: number,
  { triggerCount, slotCount }: TriggerStateSize,
): TriggerState {
  const state = newTriggerState({ triggerCount, slotCount });
  const bit = (start: number, index: number): boolean =>
    (((bytes[start + (index >>> 3)] as number) >>> (index & 7)) & 1) === 1;
  for (let index = 0; index < triggerCount; index++) if (bit(position, index)) setFinished(state, index, true);
  const presence = position + Math.ceil(triggerCount / 8);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = presence + Math.ceil(slotCount / 8);
  for (let index = 0; index < slotCount; index++) {
    if (!bit(presence, index)) continue;
    state.slots[index] = view.getFloat64(at);
    at += 8;
  }
  return state;
}
