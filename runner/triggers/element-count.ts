/**
 * Fires once, when a pane has that many elements.
 *
 * Source: AfterPaneStateMachine of the Java reference.
 */
import { type MergeContext, type TriggerContext, TriggerMachine, type TriggerPlace } from "./trigger-machine.ts";

export class ElementCountTrigger extends TriggerMachine {
  readonly #slot: number;
  readonly #elementCount: number;

  constructor(place: TriggerPlace, slot: number, elementCount: number) {
    super(place);
    this.#slot = slot;
    this.#elementCount = elementCount;
  }

  onElement({ state }: TriggerContext): void {
    const count = state.slots[this.#slot] as number;
    state.slots[this.#slot] = Number.isNaN(count) ? 1 : count + 1;
  }

  shouldFire({ state }: TriggerContext): boolean {
    return (state.slots[this.#slot] as number) >= this.#elementCount;
  }

  onFire(context: TriggerContext): void {
    this.clear(context);
    this.setFinished(context.state, true);
  }

  onMerge(context: MergeContext): void {
    const { state, sources } = context;
    if (this.finishedInAny(sources)) {
      this.setFinished(state, true);
      this.clear(context);
      return;
    }
    let sum = Number.NaN;
    for (const { slots } of sources) {
      const count = slots[this.#slot] as number;
      if (!Number.isNaN(count)) sum = Number.isNaN(sum) ? count : sum + count;
    }
    state.slots[this.#slot] = sum;
  }

  override clear({ state }: TriggerContext): void {
    state.slots[this.#slot] = Number.NaN;
  }
}
