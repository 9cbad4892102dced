/**
 * Fires when the watermark passes the window's end; with early firings before it and late ones after it, each
 * repeated implicitly. Without late firings it is finished at the end of the window.
 *
 * Source: AfterWatermarkStateMachine of the Java reference (FromEndOfWindow and AfterWatermarkEarlyAndLate).
 */
import {
  endOfWindowReached,
  type MergeContext,
  type TriggerContext,
  TriggerMachine,
  type TriggerPlace,
} from "./trigger-machine.ts";

export class AfterEndOfWindowTrigger extends TriggerMachine {
  onElement(): void {}

  shouldFire(context: TriggerContext): boolean {
    return endOfWindowReached(context);
  }

  onFire({ state }: TriggerContext): void {
    this.setFinished(state, true);
  }

  onMerge(context: MergeContext): void {
    // Where one of the windows had not fired, the merged one has something to fire.
    this.setFinished(context.state, this.finishedInAll(context.sources) && endOfWindowReached(context));
  }
}

export class AfterEndOfWindowEarlyAndLateTrigger extends TriggerMachine {
  /** Finished once the end of the window has fired. */
  readonly #early: TriggerMachine;
  readonly #late: TriggerMachine | undefined;

  constructor(place: TriggerPlace, early: TriggerMachine, late: TriggerMachine | undefined) {
    super(place, late === undefined ? [early] : [early, late]);
    this.#early = early;
    this.#late = late;
  }

  onElement(context: TriggerContext): void {
    // Merging may take the trigger back to its early part, so both parts must know all elements.
    if (this.isMerging) for (const subtrigger of this.subtriggers) subtrigger.onElement(context);
    else this.firstUnfinished(context.state)?.onElement(context);
  }

  shouldFire(context: TriggerContext): boolean {
    if (!this.#early.isFinished(context.state)) return this.#early.shouldFire(context) || endOfWindowReached(context);
    return this.#late?.shouldFire(context) ?? false;
  }

  onFire(context: TriggerContext): void {
    const { state } = context;
    if (!this.#early.isFinished(state)) this.#fireBeforeLate(context);
    else if (this.#late === undefined) this.setFinished(state, true);
    else {
      this.#late.onFire(context);
      this.#late.reset(context);
    }
  }

  onMerge(context: MergeContext): void {
    const { state, sources } = context;
    const isEarly = !sources.every((source) => this.#early.isFinished(source)) || !endOfWindowReached(context);
    if (isEarly) {
      this.#early.onMerge(context);
      this.#early.setFinished(state, false);
      this.#late?.setFinished(state, false);
      this.#late?.clear(context);
    } else {
      this.#early.setFinished(state, true);
      this.#late?.onMerge(context);
    }
  }

  #fireBeforeLate(context: TriggerContext): void {
    const { state } = context;
    const early = this.#early;
    if (!endOfWindowReached(context)) {
      early.onFire(context);
      // Its parts too: they begin anew with the next pane.
      early.reset(context);
      return;
    }
    if (early.shouldFire(context)) early.onFire(context);
    early.setFinished(state, true);
    early.clear(context);
    if (this.#late === undefined) this.setFinished(state, true);
    // It was run beside the early one.
    else this.#late.clear(context);
  }
}
