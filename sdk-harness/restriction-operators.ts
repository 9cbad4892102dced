/**
 * The parts of a splittable DoFn: pair with restriction, split and size, truncate, process.
 *
 * A restriction is [[start, stop], watermark]: the range and where the output watermark of the restriction stands. A
 * sized restriction element is [[element, restriction], size].
 * Source: beam:transform:sdf_*:v1 of beam_runner_api.proto.
 */
import type { BundleApplication, DelayedBundleApplication } from "../proto/gen/beam_fn_api.ts";
import { MIN_TIMESTAMP, type Timestamp } from "../runner/time/timestamp.ts";
import { encodeWith } from "./element-coders.ts";
import { type ContextInit, TransformContext } from "./function-context.ts";
import { type OffsetRange, OffsetRangeTracker, sizeOf } from "./offset-range.ts";
import type { Operator, OperatorInit } from "./operator.ts";
import type { RestrictionContext, SplittableDoFn } from "./user-functions.ts";
import type { Window, WindowedValue } from "./windows.ts";

type Restriction = readonly [range: readonly [start: number, stop: number], watermark: number | bigint];
type Sized = readonly [readonly [element: unknown, restriction: Restriction], size: number];

function sized(element: unknown, { start, stop }: OffsetRange, watermark: number | bigint): Sized {
  return [[element, [[start, stop], watermark]], sizeOf({ start, stop })];
}

abstract class RestrictionOperator implements Operator {
  protected readonly init: OperatorInit;
  protected readonly function: SplittableDoFn;
  readonly #outputId: string;

  constructor(init: OperatorInit) {
    this.init = init;
    this.function = init.services.functions.create(init.transform.parDo.doFn) as SplittableDoFn;
    this.#outputId = Object.values(init.transform.proto.outputs)[0] ?? "";
  }

  abstract receive(element: WindowedValue): Promise<void>;

  protected emit(element: WindowedValue, values: readonly unknown[]): Promise<void> {
    return this.init.drain(values.map((value) => ({ pcollectionId: this.#outputId, element: { ...element, value } })));
  }
}

export class PairWithRestriction extends RestrictionOperator {
  receive(element: WindowedValue): Promise<void> {
    const { start, stop } = this.function.initialRestriction(element.value);
    return this.emit(element, [[element.value, [[start, stop], MIN_TIMESTAMP]]]);
  }
}

export class SplitAndSize extends RestrictionOperator {
  receive(element: WindowedValue): Promise<void> {
    const [value, [[start, stop], watermark]] = element.value as readonly [unknown, Restriction];
    const ranges = this.function.split?.(value, { start, stop }) ?? [{ start, stop }];
    return this.emit(
      element,
      ranges.map((range) => sized(value, range, watermark)),
    );
  }
}

export class Truncate extends RestrictionOperator {
  receive(element: WindowedValue): Promise<void> {
    const [[value, [[start, stop], watermark]]] = element.value as Sized;
    const range = { start, stop };
    const truncated = this.function.truncate === undefined ? range : this.function.truncate(value, range);
    return this.emit(element, truncated === undefined ? [] : [sized(value, truncated, watermark)]);
  }
}

/** A restriction that is being processed. */
interface Active {
  readonly element: WindowedValue;
  readonly value: unknown;
  readonly tracker: OffsetRangeTracker;
  /** Where it stood when processing began: what a primary says. */
  readonly startWatermark: number | bigint;
  watermark: Timestamp;
}

export interface RestrictionSplit {
  readonly primary: BundleApplication;
  readonly residual: DelayedBundleApplication;
}

export class ProcessRestrictions extends RestrictionOperator {
  #active: Active | undefined;

  async receive(element: WindowedValue): Promise<void> {
    for (const window of element.windows) await this.#process(element, window);
  }

  async #process(element: WindowedValue, window: Window): Promise<void> {
    const [[value, [[start, stop], watermark]]] = element.value as Sized;
    const { timestamp, pane } = element;
    const active: Active = {
      element: { ...element, windows: [window] },
      value,
      tracker: new OffsetRangeTracker({ start, stop }),
      startWatermark: watermark,
      watermark: Number(watermark) as Timestamp,
    };
    const context = new RestrictionProcessing({ ...this.init, timestamp, window, pane, key: undefined }, active);
    // An element in several windows is not split: its windows are at different places.
    if (element.windows.length === 1) this.#active = active;
    try {
      const resume = await this.function.processRestriction(value, context);
      await context.flush();
      const rest = active.tracker.trySplit(0);
      if (rest === undefined) return;
      if (resume === undefined)
        throw new Error(`Offsets ${rest.start} to ${rest.stop} were not claimed, and no resumption was asked for.`);
      this.init.services.residuals.push(this.#residual(active, rest, resume.resumeAfterMs));
    } finally {
      this.#active = undefined;
    }
  }

  /** Splits the restriction that is being processed. @returns undefined when there is none or it has no rest. */
  split(fractionOfRemainder: number): RestrictionSplit | undefined {
    const active = this.#active;
    const rest = active?.tracker.trySplit(fractionOfRemainder);
    if (active === undefined || rest === undefined) return undefined;
    const primary = this.#application(active, active.tracker.range, active.startWatermark, undefined);
    return { primary, residual: this.#residual(active, rest, 0) };
  }

  #residual(active: Active, rest: OffsetRange, delayMs: number): DelayedBundleApplication {
    return {
      application: this.#application(active, rest, active.watermark, active.watermark),
      requestedTimeDelay:
        delayMs === 0
          ? undefined
          : { seconds: BigInt(Math.floor(delayMs / 1000)), nanos: Math.round((delayMs % 1000) * 1_000_000) },
    };
  }

  #application(
    { element, value }: Active,
    range: OffsetRange,
    watermark: number | bigint,
    outputWatermark: Timestamp | undefined,
  ): BundleApplication {
    const { transform, plan } = this.init;
    const tellsWatermark = outputWatermark !== undefined && outputWatermark > MIN_TIMESTAMP;
    return {
      transformId: transform.id,
      inputId: Object.keys(transform.proto.inputs)[0] ?? "",
      element: encodeWith(plan.source.coder, { ...element, value: sized(value, range, watermark) }),
      outputWatermarks: tellsWatermark
        ? Object.fromEntries(
            Object.keys(transform.proto.outputs).map((name) => [
              name,
              {
                seconds: BigInt(Math.floor(outputWatermark / 1000)),
                nanos: (outputWatermark - Math.floor(outputWatermark / 1000) * 1000) * 1_000_000,
              },
            ]),
          )
        : {},
      isBounded: 0,
    };
  }
}

class RestrictionProcessing extends TransformContext implements RestrictionContext {
  readonly #active: Active;

  constructor(init: ContextInit, active: Active) {
    super(init);
    this.#active = active;
  }

  get tracker(): OffsetRangeTracker {
    return this.#active.tracker;
  }

  get watermark(): Timestamp {
    return this.#active.watermark;
  }

  setWatermark(timestamp: number): void {
    if (timestamp > this.#active.watermark) this.#active.watermark = timestamp as Timestamp;
  }
}
