/**
 * What user code sees of a bundle while one element, in one window, or one timer is processed. What it outputs is
 * collected and goes on when the function returns or takes a turn.
 */
import { END_OF_GLOBAL_WINDOW, type Timestamp } from "../runner/time/timestamp.ts";
import type { DescriptorPlan, TransformPlan } from "./descriptor-plan.ts";
import { encodeWith } from "./element-coders.ts";
import type { BundleServices, Emitted } from "./operator.ts";
import { KeyState, readSideInput } from "./user-state.ts";
import type {
  BagState,
  CombiningState,
  FunctionContext,
  OutputOptions,
  TimerSetter,
  ValueState,
} from "./user-functions.ts";
import type { Window } from "./windows.ts";

export interface ContextInit {
  readonly transform: TransformPlan;
  readonly plan: DescriptorPlan;
  readonly services: BundleServices;
  readonly timestamp: Timestamp;
  readonly window: Window;
  readonly pane: Uint8Array;
  /** Undefined where there is none. */
  readonly key: unknown;
  /** Hands on what was emitted. */
  readonly drain: (emitted: readonly Emitted[]) => Promise<void>;
}

export class TransformContext implements FunctionContext {
  readonly timestamp: Timestamp;
  readonly window: Window;
  readonly key: unknown;
  readonly #init: ContextInit;
  #emitted: Emitted[] = [];
  #keyState: KeyState | undefined;

  constructor(init: ContextInit) {
    this.#init = init;
    this.timestamp = init.timestamp;
    this.window = init.window;
    this.key = init.key;
  }

  get processingTimeMs(): number {
    return this.#init.services.nowMs();
  }

  output(value: unknown, options: OutputOptions = {}): void {
    const { transform, pane } = this.#init;
    const { outputs, uniqueName } = transform.proto;
    const names = Object.keys(outputs);
    const tag = options.tag ?? (names.length === 1 ? (names[0] as string) : "out");
    const pcollectionId = outputs[tag];
    if (pcollectionId === undefined) throw new Error(`${uniqueName} has no output "${tag}", only ${names.join(", ")}.`);
    this.#emitted.push({
      pcollectionId,
      element: {
        value,
        timestamp: (options.timestamp ?? this.timestamp) as Timestamp,
        windows: options.windows ?? [this.window],
        pane,
      },
    });
  }

  /** Hands on what has been output since the last time. */
  async flush(): Promise<void> {
    const emitted = this.#emitted;
    this.#emitted = [];
    if (emitted.length > 0) await this.#init.drain(emitted);
  }

  async turn(): Promise<void> {
    await this.flush();
    await this.#init.services.turn();
  }

  #state(): KeyState {
    const { transform, plan, services, window, key } = this.#init;
    if (this.#keyState === undefined) {
      const [input = ""] = transform.mainInputs;
      const [keyCoderId = ""] = plan.coders.components(plan.coderIdOf(input));
      this.#keyState = new KeyState(
        services.state,
        {
          id: transform.id,
          specs: transform.parDo.stateSpecs,
          coders: plan.coders,
          functions: services.functions,
        },
        encodeWith(plan.coders.get(keyCoderId), key),
        encodeWith(plan.windowCoderOf(input), window),
      );
    }
    return this.#keyState;
  }

  value<V>(stateId: string): ValueState<V> {
    return this.#state().value(stateId);
  }

  bag<V>(stateId: string): BagState<V> {
    return this.#state().bag(stateId);
  }

  combining<Input, Output>(stateId: string): CombiningState<Input, Output> {
    return this.#state().combining(stateId);
  }

  timer(family: string): TimerSetter {
    const { transform, plan, services, window, key } = this.#init;
    const stream = plan.timerFamilies.find(
      (candidate) => candidate.transformId === transform.id && candidate.family === family,
    );
    if (stream === undefined) throw new Error(`${transform.proto.uniqueName} has no timer family "${family}".`);
    const inputTimestamp = Math.min(this.timestamp, END_OF_GLOBAL_WINDOW);
    return {
      set: (timestamp, { tag = "", hold = stream.isEventTime ? timestamp : inputTimestamp } = {}) =>
        services.timers.set(stream, { key, tag, window }, { fire: timestamp as Timestamp, hold: hold as Timestamp }),
      clear: (tag = "") => services.timers.set(stream, { key, tag, window }, "cleared"),
    };
  }

  sideInput<V>(localName: string): Promise<V[]> {
    const { plan } = this.#init;
    const { pcollectionId, ...request } = this.#sideInput(localName);
    const coder = plan.coders.get(plan.coderIdOf(pcollectionId));
    return readSideInput(this.#init.services.client, { ...request, coder }) as Promise<V[]>;
  }

  sideInputOf<V>(localName: string, key: unknown): Promise<V[]> {
    const { plan } = this.#init;
    const { pcollectionId, ...request } = this.#sideInput(localName);
    const [keyCoder = "", valueCoder = ""] = plan.coders.components(plan.coderIdOf(pcollectionId));
    return readSideInput(this.#init.services.client, {
      ...request,
      coder: plan.coders.get(valueCoder),
      key: { value: key, coder: plan.coders.get(keyCoder) },
    }) as Promise<V[]>;
  }

  #sideInput(sideInputId: string) {
    const { transform, plan, services, window } = this.#init;
    const pcollectionId = transform.proto.inputs[sideInputId];
    if (pcollectionId === undefined)
      throw new Error(`${transform.proto.uniqueName} has no side input "${sideInputId}".`);
    // The window mapping of Beam's default: into the global window, or the same window.
    const sideWindow = plan.isGlobal(pcollectionId) ? "global" : window;
    return {
      pcollectionId,
      instructionId: services.instructionId,
      transformId: transform.id,
      sideInputId,
      window: encodeWith(plan.windowCoderOf(pcollectionId), sideWindow),
    };
  }

  onFinalized(callback: () => void): void {
    this.#init.services.finalizers.push(callback);
  }
}
