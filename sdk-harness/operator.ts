/** The transforms of one bundle as they see each other and their bundle: types only. */
import type { DelayedBundleApplication } from "../proto/gen/beam_fn_api.ts";
import type { DescriptorPlan, TransformPlan } from "./descriptor-plan.ts";
import type { StateClient } from "./state-client.ts";
import type { BundleTimers, DecodedTimer } from "./timers.ts";
import type { FunctionRegistry } from "./user-functions.ts";
import type { BundleState } from "./user-state.ts";
import type { WindowedValue } from "./windows.ts";

/** What the transforms of one bundle share. */
export interface BundleServices {
  readonly instructionId: string;
  readonly functions: FunctionRegistry;
  readonly client: StateClient;
  readonly state: BundleState;
  readonly timers: BundleTimers;
  readonly finalizers: (() => void)[];
  readonly residuals: DelayedBundleApplication[];
  readonly nowMs: () => number;
  readonly turn: () => Promise<void>;
}

export interface Emitted {
  readonly pcollectionId: string;
  readonly element: WindowedValue;
}

export interface Operator {
  receive(element: WindowedValue): Promise<void>;
  onTimer?(timer: DecodedTimer): Promise<void>;
  start?(): void;
  finish?(): void;
}

/** What an operator needs of its bundle. */
export interface OperatorInit {
  readonly transform: TransformPlan;
  readonly plan: DescriptorPlan;
  readonly services: BundleServices;
  readonly drain: (emitted: readonly Emitted[]) => Promise<void>;
}
