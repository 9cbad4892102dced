/**
 * The transforms of a descriptor as objects that take elements, one set for each bundle.
 *
 * Elements of several windows are processed in each window by itself.
 */
import { userError } from "../runner/base/errors.ts";
import { NO_FIRING_PANE } from "../runner/coders/pane-info.ts";
import { ByteWriter } from "./byte-stream.ts";
import type { DescriptorPlan } from "./descriptor-plan.ts";
import { TransformContext } from "./function-context.ts";
import type { Operator, OperatorInit } from "./operator.ts";
import { PairWithRestriction, ProcessRestrictions, SplitAndSize, Truncate } from "./restriction-operators.ts";
import type { DecodedTimer } from "./timers.ts";
import type { DoFn } from "./user-functions.ts";
import type { WindowedValue } from "./windows.ts";

/** @throws WeirError naming a transform that this harness does not run. */
export function createOperator(init: OperatorInit): Operator {
  switch (init.transform.urn) {
    case "beam:transform:pardo:v1":
      return new ParDo(init);
    case "beam:transform:sdf_pair_with_restriction:v1":
      return new PairWithRestriction(init);
    case "beam:transform:sdf_split_and_size_restrictions:v1":
      return new SplitAndSize(init);
    case "beam:transform:sdf_process_sized_element_and_restrictions:v1":
      return new ProcessRestrictions(init);
    case "beam:transform:sdf_truncate_sized_restrictions:v1":
      return new Truncate(init);
    case "beam:transform:flatten:v1":
      return new Flatten(init);
    default:
      throw userError(
        "UNIMPLEMENTED",
        `The TypeScript harness does not run ${init.transform.urn} (${init.transform.proto.uniqueName}).`,
      );
  }
}

class ParDo implements Operator {
  readonly #init: OperatorInit;
  readonly #function: DoFn;
  readonly #isKeyed: boolean;

  constructor(init: OperatorInit) {
    this.#init = init;
    const { parDo } = init.transform;
    this.#function = init.services.functions.create(parDo.doFn) as DoFn;
    this.#isKeyed = Object.keys(parDo.stateSpecs).length > 0 || Object.keys(parDo.timerFamilySpecs).length > 0;
  }

  start(): void {
    this.#function.startBundle?.();
  }

  async receive(element: WindowedValue): Promise<void> {
    const { value, timestamp, pane } = element;
    const key = this.#isKeyed ? (value as readonly unknown[])[0] : undefined;
    for (const window of element.windows) {
      const context = new TransformContext({ ...this.#init, timestamp, window, pane, key });
      await this.#function.process?.(value, context);
      await context.flush();
    }
  }

  async onTimer(timer: DecodedTimer): Promise<void> {
    const { holdTimestamp: timestamp, window, key } = timer;
    const pane = Uint8Array.of(NO_FIRING_PANE);
    const context = new TransformContext({ ...this.#init, timestamp, window, pane, key });
    await this.#function.onTimer?.(timer, context);
    await context.flush();
  }

  finish(): void {
    this.#function.finishBundle?.();
  }
}

class Flatten implements Operator {
  readonly #init: OperatorInit;
  readonly #outputId: string;

  constructor(init: OperatorInit) {
    this.#init = init;
    this.#outputId = Object.values(init.transform.proto.outputs)[0] ?? "";
  }

  receive(element: WindowedValue): Promise<void> {
    return this.#init.drain([{ pcollectionId: this.#outputId, element }]);
  }
}

/** Bytes of encoded output that make a message. */
const MESSAGE_BYTES = 32 * 1024;

/** Encodes what leaves the bundle. */
export class Sink implements Operator {
  readonly #plan: DescriptorPlan["sinks"][number];
  readonly #send: (data: Uint8Array, isLast: boolean) => void;
  readonly #messageBytes: number;
  #writer = new ByteWriter();

  /** @param messageBytes what a message should hold: it is sent when there is as much, or at the end */
  constructor(
    plan: DescriptorPlan["sinks"][number],
    send: (data: Uint8Array, isLast: boolean) => void,
    messageBytes = MESSAGE_BYTES,
  ) {
    this.#plan = plan;
    this.#send = send;
    this.#messageBytes = messageBytes;
  }

  receive(element: WindowedValue): Promise<void> {
    this.#plan.coder.encode(element, this.#writer);
    if (this.#writer.length >= this.#messageBytes) {
      this.#send(this.#writer.finish(), false);
      this.#writer = new ByteWriter();
    }
    return Promise.resolve();
  }

  /** Sends the rest and ends the stream. */
  end(): void {
    if (this.#writer.length > 0) this.#send(this.#writer.finish(), false);
    this.#send(new Uint8Array(), true);
  }
}
