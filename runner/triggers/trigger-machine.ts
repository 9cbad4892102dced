/**
 * The base of every trigger: a state machine over a `TriggerState`, pure but for the state that it is handed. A tree
 * of them is one trigger; each has its own index in the state.
 *
 * The life of a pane: `onElement` for each element, `shouldFire` when something may have changed, `onFire` when the
 * pane is emitted, `clear` when what was tracked is void, `onMerge` when windows become one.
 * Source: TriggerStateMachine and ExecutableTriggerStateMachine of the Java reference.
 */
import type { Timestamp } from "../time/timestamp.ts";
import { isFinished, setFinished, type TriggerState } from "./trigger-state.ts";

/** One key and window, now. */
export interface TriggerContext {
  readonly state: TriggerState;
  readonly windowMaxTimestamp: Timestamp;
  readonly inputWatermark: Timestamp;
  readonly processingTimeMs: number;
}

export interface MergeContext extends TriggerContext {
  /** Of the windows that have state and become one; `state` is not among them. */
  readonly sources: readonly TriggerState[];
}

/** What a machine is built with: its place in the state. */
export interface TriggerPlace {
  readonly index: number;
  /** Whether windows of the WindowFn merge: then parts that have finished may come to life again. */
  readonly isMerging: boolean;
}

export abstract class TriggerMachine {
  readonly index: number;
  readonly isMerging: boolean;
  readonly subtriggers: readonly TriggerMachine[];

  constructor({ index, isMerging }: TriggerPlace, subtriggers: readonly TriggerMachine[] = []) {
    this.index = index;
    this.isMerging = isMerging;
    this.subtriggers = subtriggers;
  }

  abstract onElement(context: TriggerContext): void;
  abstract shouldFire(context: TriggerContext): boolean;
  /** Only when `shouldFire`. */
  abstract onFire(context: TriggerContext): void;
  abstract onMerge(context: MergeContext): void;

  /** Forgets what was tracked; what has finished stays so. */
  clear(context: TriggerContext): void {
    for (const subtrigger of this.subtriggers) subtrigger.clear(context);
  }

  /** As new: nothing tracked, nothing finished. */
  reset(context: TriggerContext): void {
    this.#unfinish(context.state);
    this.clear(context);
  }

  isFinished(state: TriggerState): boolean {
    return isFinished(state, this.index);
  }

  setFinished(state: TriggerState, value: boolean): void {
    setFinished(state, this.index, value);
  }

  protected finishedInAll(sources: readonly TriggerState[]): boolean {
    return sources.every((source) => isFinished(source, this.index));
  }

  protected finishedInAny(sources: readonly TriggerState[]): boolean {
    return sources.some((source) => isFinished(source, this.index));
  }

  protected firstUnfinished(state: TriggerState): TriggerMachine | undefined {
    return this.subtriggers.find((subtrigger) => !subtrigger.isFinished(state));
  }

  #unfinish(state: TriggerState): void {
    setFinished(state, this.index, false);
    for (const subtrigger of this.subtriggers) subtrigger.#unfinish(state);
  }
}

/** Whether the input watermark has passed the window's end. */
export function endOfWindowReached({ inputWatermark, windowMaxTimestamp }: TriggerContext): boolean {
  return inputWatermark > windowMaxTimestamp;
}
