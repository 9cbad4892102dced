/**
 * Where an encoded element ends: a coder's structure compiled once into a function that walks bytes. Nothing is
 * decoded and nothing is allocated per element. All coders are in the nested context, as on Data streams.
 *
 * Invariant: no skip function returns a position past the end of the bytes, or loops longer than the bytes are long.
 * Source: StandardCoders of beam_runner_api.proto; the byte forms are those of Beam's standard_coders.yaml.
 */
import { WeirError } from "../base/errors.ts";
import type { CoderSpec, CoderTable } from "../graph/execution-graph.ts";
import { malformed, readInt32, varintEnd } from "./byte-reader.ts";
import { compileRowSkip } from "./row-boundary.ts";
import {
  paneEnd,
  skipBool,
  skipFixed,
  skipItems,
  skipIterable,
  skipLengthPrefixed,
  skipNullable,
  skipPair,
  type Skip,
} from "./primitive-boundary.ts";

export type { Skip };

/**
 * @throws WeirError INVALID_ARGUMENT when a coder is not in the table, UNIMPLEMENTED for one that the runner cannot
 * walk, naming its URN.
 */
export function compileSkip(coders: CoderTable, coderId: string): Skip {
  const coder = coders[coderId];
  if (coder === undefined)
    throw new WeirError({ code: "INVALID_ARGUMENT", domain: "user", message: `Coder "${coderId}" is not defined.` });
  const what = `"${coderId}" (${coder.urn})`;
  const component = (index: number): Skip => compileSkip(coders, componentOf(coder, index, what));
  switch (coder.urn) {
    case "beam:coder:bytes:v1":
    case "beam:coder:string_utf8:v1":
    case "beam:coder:length_prefix:v1":
      return skipLengthPrefixed(what);
    case "beam:coder:varint:v1":
      return (bytes, position) => varintEnd(bytes, position, what);
    case "beam:coder:bool:v1":
      return skipBool(what);
    case "beam:coder:double:v1":
      return skipFixed(8, what);
    case "beam:coder:global_window:v1":
      return (_bytes, position) => position;
    case "beam:coder:interval_window:v1":
      // End timestamp, then the span as a varint.
      return (bytes, position) => varintEnd(bytes, position + 8, what);
    case "beam:coder:custom_window:v1":
      return skipPair(skipFixed(8, what), component(0));
    case "beam:coder:kv:v1":
      return skipPair(component(0), component(1));
    case "beam:coder:sharded_key:v1":
      return skipPair(skipLengthPrefixed(what), component(0));
    case "beam:coder:iterable:v1":
      return skipIterable(component(0), false, what);
    case "beam:coder:state_backed_iterable:v1":
      return skipIterable(component(0), true, what);
    case "beam:coder:nullable:v1":
      return skipNullable(component(0), what);
    case "beam:coder:windowed_value:v1":
      return skipWindowedValue(component(0), skipWindows(component(1), what), what);
    case "beam:coder:param_windowed_value:v1":
      return component(0);
    case "beam:coder:timer:v1":
      return skipTimer(component(0), skipWindows(component(1), what), what);
    case "beam:coder:row:v1":
      return compileRowSkip(coder.payload, what);
    default:
      throw new WeirError({
        code: "UNIMPLEMENTED",
        domain: "internal",
        message: `The runner cannot walk coder ${what}; it should have been length-prefixed.`,
      });
  }
}

/** The id of a component. @throws WeirError INVALID_ARGUMENT when there are fewer. */
export function componentOf(coder: CoderSpec, index: number, what: string): string {
  const id = coder.components[index];
  if (id === undefined)
    throw new WeirError({
      code: "INVALID_ARGUMENT",
      domain: "user",
      message: `Coder ${what} has ${coder.components.length} components; component ${index} is missing.`,
    });
  return id;
}

/** A count of four bytes, then the windows. */
function skipWindows(window: Skip, what: string): Skip {
  return (bytes, position) => {
    const count = readInt32(bytes, position, what);
    if (count < 0) throw malformed(what, bytes, position, "has a negative number of windows");
    return skipItems(window, count, bytes, position + 4);
  };
}

function skipWindowedValue(value: Skip, windows: Skip, what: string): Skip {
  return (bytes, position) => value(bytes, paneEnd(bytes, windows(bytes, position + 8), what));
}

/** Key, dynamic tag, windows, clear bit; where not cleared fire timestamp, hold timestamp and pane. */
function skipTimer(key: Skip, windows: Skip, what: string): Skip {
  const tag = skipLengthPrefixed(what);
  const clear = skipBool(what);
  return (bytes, position) => {
    const clearAt = windows(bytes, tag(bytes, key(bytes, position)));
    const end = clear(bytes, clearAt);
    return bytes[clearAt] === 1 ? end : paneEnd(bytes, end + 16, what);
  };
}
