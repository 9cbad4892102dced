/**
 * Triggers that remember nothing and never finish: default, always, never.
 *
 * Source: DefaultTriggerStateMachine, NeverStateMachine and ReshuffleTriggerStateMachine of the Java reference.
 */
import { endOfWindowReached, type TriggerContext, TriggerMachine } from "./trigger-machine.ts";

/** Fires at the window's end, then for whatever comes late. */
export class DefaultTrigger extends TriggerMachine {
  onElement(): void {}

  shouldFire(context: TriggerContext): boolean {
    return endOfWindowReached(context);
  }

  onFire(): void {}

  onMerge(): void {}
}

/** Fires for whatever there is. */
export class AlwaysTrigger extends TriggerMachine {
  onElement(): void {}

  shouldFire(): boolean {
    return true;
  }

  onFire(): void {}

  onMerge(): void {}
}

/** Leaves everything to the window's expiry. */
export class NeverTrigger extends TriggerMachine {
  onElement(): void {}

  shouldFire(): boolean {
    return false;
  }

  onFire(): void {}

  onMerge(): void {}
}
