/**
 * What user code is to the TypeScript harness: DoFns and splittable DoFns that a pipeline names, with an argument, in
 * its ParDos, and that the harness's process has registered under these names.
 *
 * The payload of a ParDo's do_fn is the JSON {"name": …, "argument": …} under the URN DO_FN_URN.
 */
import { userError } from "../runner/base/errors.ts";
import type { Timestamp } from "../runner/time/timestamp.ts";
import type { OffsetRange, OffsetRangeTracker } from "./offset-range.ts";
import type { Window } from "./windows.ts";

export const DO_FN_URN = "weir:dofn:typescript:v1";
export const COMBINE_FN_URN = "weir:combinefn:typescript:v1";

export interface OutputOptions {
  /** Local name of the output; default: the only one, or "out". */
  readonly tag?: string;
  /** Default: the input's timestamp; in a timer its hold. */
  readonly timestamp?: number;
  /** Default: the input's window. */
  readonly windows?: readonly Window[];
}

export interface ValueState<V> {
  read(): Promise<V | undefined>;
  write(value: V): void;
  clear(): void;
}

export interface BagState<V> {
  read(): Promise<V[]>;
  add(value: V): void;
  clear(): void;
}

export interface CombiningState<Input, Output> {
  read(): Promise<Output>;
  add(value: Input): void;
  clear(): void;
}

export interface TimerOptions {
  /** Dynamic tag. */
  readonly tag?: string;
  /** Holds the output watermark; default: fire timestamp (event time), the input's timestamp (processing time). */
  readonly hold?: number;
}

export interface TimerSetter {
  /** Milliseconds: of event time, or since 1970 of processing time. */
  set(timestamp: number, options?: TimerOptions): void;
  clear(tag?: string): void;
}

/** What a function can do while an element or a timer is processed. */
export interface FunctionContext {
  readonly timestamp: Timestamp;
  readonly window: Window;
  /** Of stateful functions. */
  readonly key: unknown;
  readonly processingTimeMs: number;
  output(value: unknown, options?: OutputOptions): void;
  value<V>(stateId: string): ValueState<V>;
  bag<V>(stateId: string): BagState<V>;
  combining<Input, Output>(stateId: string): CombiningState<Input, Output>;
  timer(family: string): TimerSetter;
  /** All elements of a side input of iterable access. */
  sideInput<V>(localName: string): Promise<V[]>;
  /** Values of a key of a side input of multimap access. */
  sideInputOf<V>(localName: string, key: unknown): Promise<V[]>;
  /** Called when the bundle's results are durable. */
  onFinalized(callback: () => void): void;
  /** Lets the harness do other things: split requests are seen in between. Outputs so far go on. */
  turn(): Promise<void>;
}

export interface FiredTimer {
  readonly family: string;
  readonly tag: string;
  readonly fireTimestamp: Timestamp;
  readonly holdTimestamp: Timestamp;
}

type Maybe<Result> = Result | Promise<Result>;

export interface DoFn {
  startBundle?(): void;
  process?(element: unknown, context: FunctionContext): Maybe<void>;
  onTimer?(timer: FiredTimer, context: FunctionContext): Maybe<void>;
  finishBundle?(): void;
}

export interface RestrictionContext extends FunctionContext {
  readonly tracker: OffsetRangeTracker;
  /** Where the output watermark of this restriction stands; remembered with its residual. */
  readonly watermark: Timestamp;
  setWatermark(timestamp: number): void;
}

/** What is left is to be processed later: not before the delay has passed. */
export interface Resume {
  readonly resumeAfterMs: number;
}

export interface SplittableDoFn {
  initialRestriction(element: unknown): OffsetRange;
  /** Default: the restriction as it is. */
  split?(element: unknown, restriction: OffsetRange): readonly OffsetRange[];
  /** On drain: what is still to be processed. Default: all of it; undefined: nothing. */
  truncate?(element: unknown, restriction: OffsetRange): OffsetRange | undefined;
  processRestriction(element: unknown, context: RestrictionContext): Maybe<Resume | void>;
}

export interface CombineFn<Input, Accumulator, Output> {
  create(): Accumulator;
  add(accumulator: Accumulator, value: Input): Accumulator;
  merge(accumulators: readonly Accumulator[]): Accumulator;
  extract(accumulator: Accumulator): Output;
}

export type UserFunction = DoFn | SplittableDoFn;
export type AnyCombineFn = CombineFn<unknown, unknown, unknown>;

/** Made anew for each bundle. */
export type FunctionFactory = (argument: never) => UserFunction;

export class FunctionRegistry {
  readonly #functions = new Map<string, FunctionFactory>();
  readonly #combineFns = new Map<string, AnyCombineFn>();

  register(name: string, factory: FunctionFactory): this {
    this.#functions.set(name, factory);
    return this;
  }

  registerCombine<Input, Accumulator, Output>(name: string, combine: CombineFn<Input, Accumulator, Output>): this {
    this.#combineFns.set(name, combine as unknown as AnyCombineFn);
    return this;
  }

  /** @throws WeirError naming a function that is not registered. */
  create(spec: { readonly urn: string; readonly payload: Uint8Array } | undefined): UserFunction {
    const { name, argument } = readReference(spec, DO_FN_URN);
    const factory = this.#functions.get(name);
    if (factory === undefined) throw unknownFunction(name, this.#functions.keys());
    return factory(argument as never);
  }

  /** @throws WeirError naming a function that is not registered. */
  combineFn(spec: { readonly urn: string; readonly payload: Uint8Array } | undefined): AnyCombineFn {
    const { name } = readReference(spec, COMBINE_FN_URN);
    const combine = this.#combineFns.get(name);
    if (combine === undefined) throw unknownFunction(name, this.#combineFns.keys());
    return combine;
  }
}

/** The payload that names a function, for whoever builds a pipeline. @public */
export function functionReference(name: string, argument?: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ name, argument }));
}

function readReference(
  spec: { readonly urn: string; readonly payload: Uint8Array } | undefined,
  urn: string,
): { readonly name: string; readonly argument: unknown } {
  if (spec?.urn !== urn)
    throw userError(
      "UNIMPLEMENTED",
      `The TypeScript harness runs functions of URN ${urn}, not ${spec?.urn ?? "none"}.`,
    );
  return JSON.parse(new TextDecoder().decode(spec.payload)) as { name: string; argument: unknown };
}

function unknownFunction(name: string, known: Iterable<string>): Error {
  return userError("NOT_FOUND", `No function "${name}" is registered.`, `Registered are: ${[...known].join(", ")}.`);
}
