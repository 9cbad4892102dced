/**
 * Triggers made of others: after all, after any, after each in turn, or finally, repeat.
 *
 * Source: AfterAllStateMachine, AfterFirstStateMachine, AfterEachStateMachine, OrFinallyStateMachine and
 * RepeatedlyStateMachine of the Java reference.
 */
import { type MergeContext, type TriggerContext, TriggerMachine, type TriggerPlace } from "./trigger-machine.ts";

/** Fires once, when all are ready. */
export class AfterAllTrigger extends TriggerMachine {
  onElement(context: TriggerContext): void {
    for (const subtrigger of this.subtriggers) if (!subtrigger.isFinished(context.state)) subtrigger.onElement(context);
  }

  shouldFire(context: TriggerContext): boolean {
    return this.subtriggers.every(
      (subtrigger) => subtrigger.isFinished(context.state) || subtrigger.shouldFire(context),
    );
  }

  onFire(context: TriggerContext): void {
    for (const subtrigger of this.subtriggers) subtrigger.onFire(context);
    this.setFinished(context.state, true);
  }

  onMerge(context: MergeContext): void {
    for (const subtrigger of this.subtriggers) subtrigger.onMerge(context);
    this.setFinished(
      context.state,
      this.subtriggers.every((subtrigger) => subtrigger.isFinished(context.state)),
    );
  }
}

/** Fires once, when one is ready. */
export class AfterAnyTrigger extends TriggerMachine {
  onElement(context: TriggerContext): void {
    for (const subtrigger of this.subtriggers) subtrigger.onElement(context);
  }

  shouldFire(context: TriggerContext): boolean {
    return this.subtriggers.some(
      (subtrigger) => subtrigger.isFinished(context.state) || subtrigger.shouldFire(context),
    );
  }

  onFire(context: TriggerContext): void {
    for (const subtrigger of this.subtriggers) {
      if (subtrigger.shouldFire(context)) subtrigger.onFire(context);
      // The pane that it tracked is gone.
      else subtrigger.clear(context);
    }
    this.setFinished(context.state, true);
  }

  onMerge(context: MergeContext): void {
    for (const subtrigger of this.subtriggers) subtrigger.onMerge(context);
    this.setFinished(
      context.state,
      this.subtriggers.some((subtrigger) => subtrigger.isFinished(context.state)),
    );
  }
}

/** One after the other: each fires until it has finished. */
export class AfterEachTrigger extends TriggerMachine {
  onElement(context: TriggerContext): void {
    // Merging may bring those that have finished to life again.
    if (this.isMerging) for (const subtrigger of this.subtriggers) subtrigger.onElement(context);
    else this.firstUnfinished(context.state)?.onElement(context);
  }

  shouldFire(context: TriggerContext): boolean {
    return this.firstUnfinished(context.state)?.shouldFire(context) ?? false;
  }

  onFire(context: TriggerContext): void {
    this.firstUnfinished(context.state)?.onFire(context);
    // They all ran beside it, for the pane that is gone.
    if (this.isMerging) for (const subtrigger of this.subtriggers) subtrigger.clear(context);
    this.#update(context);
  }

  onMerge(context: MergeContext): void {
    let allFinished = true;
    for (const subtrigger of this.subtriggers) {
      if (allFinished) {
        subtrigger.onMerge(context);
        allFinished = subtrigger.isFinished(context.state);
      } else subtrigger.clear(context);
    }
    this.#update(context);
  }

  #update({ state }: TriggerContext): void {
    this.setFinished(state, this.firstUnfinished(state) === undefined);
  }
}

/** Fires as the main trigger does, until the other one fires: that firing is the last. */
export class OrFinallyTrigger extends TriggerMachine {
  readonly #main: TriggerMachine;
  readonly #finally: TriggerMachine;

  constructor(place: TriggerPlace, main: TriggerMachine, last: TriggerMachine) {
    super(place, [main, last]);
    this.#main = main;
    this.#finally = last;
  }

  onElement(context: TriggerContext): void {
    for (const subtrigger of this.subtriggers) subtrigger.onElement(context);
  }

  shouldFire(context: TriggerContext): boolean {
    return this.#main.shouldFire(context) || this.#finally.shouldFire(context);
  }

  onFire(context: TriggerContext): void {
    if (this.#finally.shouldFire(context)) {
      this.#finally.onFire(context);
      this.#main.clear(context);
    } else this.#main.onFire(context);
    this.#update(context);
  }

  onMerge(context: MergeContext): void {
    for (const subtrigger of this.subtriggers) subtrigger.onMerge(context);
    this.#update(context);
  }

  #update({ state }: TriggerContext): void {
    this.setFinished(
      state,
      this.subtriggers.some((subtrigger) => subtrigger.isFinished(state)),
    );
  }
}

/** Starts its trigger anew whenever that has finished. */
export class RepeatTrigger extends TriggerMachine {
  readonly #repeated: TriggerMachine;

  constructor(place: TriggerPlace, repeated: TriggerMachine) {
    super(place, [repeated]);
    this.#repeated = repeated;
  }

  onElement(context: TriggerContext): void {
    this.#repeated.onElement(context);
  }

  shouldFire(context: TriggerContext): boolean {
    return this.#repeated.shouldFire(context);
  }

  onFire(context: TriggerContext): void {
    this.#repeated.onFire(context);
    if (this.#repeated.isFinished(context.state)) this.#repeated.reset(context);
  }

  onMerge(context: MergeContext): void {
    this.#repeated.onMerge(context);
    if (this.#repeated.isFinished(context.state)) this.#repeated.reset(context);
  }
}
