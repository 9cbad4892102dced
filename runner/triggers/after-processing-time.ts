/**
 * Fires once, a time after the first element of a pane arrived: after processing time with its timestamp transforms,
 * and after synchronized processing time, which has no transforms. A job has one processing time, so upstream has
 * always caught up with it.
 *
 * Differs from the Java reference in a millisecond: it fires at the time, not after it; the proto says "when the
 * specified delay has passed". Source: AfterDelayFromFirstElementStateMachine.
 */
import { type MergeContext, type TriggerContext, TriggerMachine, type TriggerPlace } from "./trigger-machine.ts";

export type TimestampTransform =
  | { readonly kind: "delay"; readonly delayMs: number }
  /** To the next multiple of the period, counted from the offset; a time that is one stays. */
  | { readonly kind: "align-to"; readonly periodMs: number; readonly offsetMs: number };

export class AfterProcessingTimeTrigger extends TriggerMachine {
  readonly #slot: number;
  readonly #transforms: readonly TimestampTransform[];

  constructor(place: TriggerPlace, slot: number, transforms: readonly TimestampTransform[]) {
    super(place);
    this.#slot = slot;
    this.#transforms = transforms;
  }

  onElement({ state, processingTimeMs }: TriggerContext): void {
    if (Number.isNaN(state.slots[this.#slot])) state.slots[this.#slot] = targetTime(processingTimeMs, this.#transforms);
  }

  shouldFire({ state, processingTimeMs }: TriggerContext): boolean {
    return processingTimeMs >= (state.slots[this.#slot] as number);
  }

  onFire(context: TriggerContext): void {
    this.clear(context);
    this.setFinished(context.state, true);
  }

  onMerge(context: MergeContext): void {
    const { state, sources } = context;
    if (this.isFinished(state)) {
      this.clear(context);
      return;
    }
    let earliest = Number.NaN;
    for (const { slots } of sources) {
      const time = slots[this.#slot] as number;
      if (!(time >= earliest)) earliest = Number.isNaN(time) ? earliest : time;
    }
    state.slots[this.#slot] = earliest;
  }

  override clear({ state }: TriggerContext): void {
    state.slots[this.#slot] = Number.NaN;
  }
}

/** When something that arrives at a time is to be fired. */
export function targetTime(arrivalMs: number, transforms: readonly TimestampTransform[]): number {
  let time = arrivalMs;
  for (const transform of transforms) {
    if (transform.kind === "delay") time += transform.delayMs;
    else {
      const { periodMs, offsetMs } = transform;
      const past = (((time - offsetMs) % periodMs) + periodMs) % periodMs;
      if (past !== 0) time += periodMs - past;
    }
  }
  return time;
}
