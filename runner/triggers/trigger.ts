/**
 * A windowing strategy's trigger: the tree of machines built from its proto, and what a grouping does with it.
 *
 * Source: Trigger of beam_runner_api.proto; TriggerStateMachines and TriggerStateMachineRunner of the Java reference.
 */
import {
  type TimestampTransform as TimestampTransformProto,
  Trigger as TriggerProto,
} from "../../proto/gen/beam_runner_api.ts";
import { userError } from "../base/errors.ts";
import { AfterEndOfWindowEarlyAndLateTrigger, AfterEndOfWindowTrigger } from "./after-end-of-window.ts";
import { AfterProcessingTimeTrigger, type TimestampTransform } from "./after-processing-time.ts";
import {
  AfterAllTrigger,
  AfterAnyTrigger,
  AfterEachTrigger,
  OrFinallyTrigger,
  RepeatTrigger,
} from "./composite-triggers.ts";
import { ElementCountTrigger } from "./element-count.ts";
import { AlwaysTrigger, DefaultTrigger, NeverTrigger } from "./stateless-triggers.ts";
import type { MergeContext, TriggerContext, TriggerMachine, TriggerPlace } from "./trigger-machine.ts";
import {
  copyTriggerState,
  decodeTriggerState,
  encodeTriggerState,
  newTriggerState,
  type TriggerState,
  type TriggerStateSize,
} from "./trigger-state.ts";

export type { MergeContext, TriggerContext, TriggerState };

export class Trigger {
  readonly #root: TriggerMachine;
  readonly #size: TriggerStateSize;
  readonly #delaySlots: readonly number[];
  readonly #shared: TriggerState | undefined;
  /** True for the default trigger, which has nothing to do before the end of the window. */
  readonly isDefault: boolean;

  /**
   * @param proto a Trigger of beam_runner_api.proto, encoded; an empty one is the default trigger
   * @param isMerging whether windows of the WindowFn merge
   * @throws WeirError INVALID_ARGUMENT for a trigger that lacks a part
   */
  constructor(proto: Uint8Array, isMerging: boolean) {
    const builder = new Builder(isMerging);
    this.#root = builder.build(TriggerProto.decode(proto));
    this.#size = { triggerCount: builder.triggerCount, slotCount: builder.slotCount };
    this.#delaySlots = builder.delaySlots;
    this.isDefault = this.#root instanceof DefaultTrigger;
    const isStateless = this.#root instanceof AlwaysTrigger || this.#root instanceof NeverTrigger || this.isDefault;
    this.#shared = isStateless ? newTriggerState(this.#size) : undefined;
  }

  /** Of a window that has seen nothing. */
  newState(): TriggerState {
    return this.#shared ?? newTriggerState(this.#size);
  }

  /** Whether it will never fire again: elements of the window are dropped. */
  isClosed(state: TriggerState): boolean {
    return this.#root.isFinished(state);
  }

  onElement(context: TriggerContext): void {
    this.#root.onElement(context);
  }

  shouldFire(context: TriggerContext): boolean {
    return this.#root.shouldFire(context);
  }

  onFire(context: TriggerContext): void {
    this.#root.onFire(context);
  }

  /**
   * The state of the window that others have become.
   * @param context its `state` is what the merged window had itself, or new; it is not changed
   * @param context.sources of the windows that had state, at least one
   */
  onMerge(context: MergeContext): TriggerState {
    if (this.#shared !== undefined) return this.#shared;
    const state = copyTriggerState(context.state);
    this.#root.onMerge({ ...context, state });
    return state;
  }

  /** The first time after `nowMs` that may make it fire; undefined when it waits for none. */
  nextProcessingTimeMs({ slots }: TriggerState, nowMs: number): number | undefined {
    let next: number | undefined;
    for (const slot of this.#delaySlots) {
      const time = slots[slot] as number;
      if (time > nowMs && (next === undefined || time < next)) next = time;
    }
    return next;
  }

  encodeState(state: TriggerState): Uint8Array {
    return encodeTriggerState(state, this.#size);
  }

  decodeState(bytes: Uint8Array, position: number): TriggerState {
    return this.#shared ?? decodeTriggerState(bytes, position, this.#size);
  }
}

class Builder {
  triggerCount = 0;
  slotCount = 0;
  readonly delaySlots: number[] = [];
  readonly #isMerging: boolean;

  constructor(isMerging: boolean) {
    this.#isMerging = isMerging;
  }

  build({ trigger }: TriggerProto): TriggerMachine {
    const place: TriggerPlace = { index: this.triggerCount++, isMerging: this.#isMerging };
    switch (trigger?.$case) {
      case undefined:
      case "default":
        return new DefaultTrigger(place);
      case "always":
        return new AlwaysTrigger(place);
      case "never":
        return new NeverTrigger(place);
      case "elementCount":
        return new ElementCountTrigger(place, this.slotCount++, trigger.value.elementCount);
      case "afterProcessingTime":
        return this.#afterProcessingTime(place, trigger.value.timestampTransforms.map(timestampTransform));
      case "afterSynchronizedProcessingTime":
        return this.#afterProcessingTime(place, []);
      case "afterEndOfWindow": {
        const { earlyFirings, lateFirings } = trigger.value;
        if (earlyFirings === undefined && lateFirings === undefined) return new AfterEndOfWindowTrigger(place);
        const early = this.build(earlyFirings ?? { trigger: { $case: "never", value: {} } });
        return new AfterEndOfWindowEarlyAndLateTrigger(place, early, lateFirings && this.build(lateFirings));
      }
      case "afterAll":
        return new AfterAllTrigger(place, this.#several("AfterAll", trigger.value.subtriggers));
      case "afterAny":
        return new AfterAnyTrigger(place, this.#several("AfterAny", trigger.value.subtriggers));
      case "afterEach":
        return new AfterEachTrigger(place, this.#several("AfterEach", trigger.value.subtriggers));
      case "orFinally":
        return new OrFinallyTrigger(
          place,
          this.#part("OrFinally", trigger.value.main),
          this.#part("OrFinally", trigger.value.finally),
        );
      case "repeat":
        return new RepeatTrigger(place, this.#part("Repeat", trigger.value.subtrigger));
    }
  }

  #afterProcessingTime(place: TriggerPlace, transforms: readonly TimestampTransform[]): TriggerMachine {
    const slot = this.slotCount++;
    this.delaySlots.push(slot);
    return new AfterProcessingTimeTrigger(place, slot, transforms);
  }

  #several(name: string, subtriggers: readonly TriggerProto[]): TriggerMachine[] {
    if (subtriggers.length === 0) throw incomplete(name);
    return subtriggers.map((subtrigger) => this.build(subtrigger));
  }

  #part(name: string, subtrigger: TriggerProto | undefined): TriggerMachine {
    if (subtrigger === undefined) throw incomplete(name);
    return this.build(subtrigger);
  }
}

function timestampTransform({ timestampTransform: transform }: TimestampTransformProto): TimestampTransform {
  if (transform?.$case === "alignTo") {
    const periodMs = Number(transform.value.period);
    if (periodMs <= 0)
      throw userError("INVALID_ARGUMENT", "A trigger aligns processing time to a period of no length.");
    return { kind: "align-to", periodMs, offsetMs: Number(transform.value.offset) };
  }
  return { kind: "delay", delayMs: Number(transform?.value.delayMillis ?? 0n) };
}

function incomplete(name: string): Error {
  return userError("INVALID_ARGUMENT", `A windowing strategy has the trigger ${name} without a subtrigger.`);
}
