/**
 * Beam's standard coders between bytes and JavaScript values, all in nested context:
 * bytes ↔ Uint8Array, string_utf8 ↔ string, varint ↔ number (bigint beyond 2^53), double ↔ number, bool ↔ boolean,
 * kv ↔ [key, value], iterable ↔ array, length_prefix ↔ what is in it, interval_window ↔ IntervalWindow,
 * global_window ↔ "global", windowed_value ↔ WindowedValue.
 *
 * Source: StandardCoders of beam_runner_api.proto.
 */
import type { Coder } from "../proto/gen/beam_runner_api.ts";
import { userError } from "../runner/base/errors.ts";
import type { Timestamp } from "../runner/time/timestamp.ts";
import { ByteReader, ByteWriter } from "./byte-stream.ts";
import type { IntervalWindow, Window, WindowedValue } from "./windows.ts";

export interface ElementCoder {
  encode(value: unknown, into: ByteWriter): void;
  /** @throws WeirError DATA_LOSS when the bytes end too early. */
  decode(from: ByteReader): unknown;
}

export function encodeWith(coder: ElementCoder, value: unknown): Uint8Array {
  const writer = new ByteWriter();
  coder.encode(value, writer);
  return writer.finish();
}

/** Every value of the bytes. */
export function decodeAll(coder: ElementCoder, bytes: Uint8Array): unknown[] {
  const reader = new ByteReader(bytes);
  const values: unknown[] = [];
  while (!reader.atEnd) values.push(coder.decode(reader));
  return values;
}

const BYTES: ElementCoder = {
  encode: (value, into) => into.lengthPrefixed(value as Uint8Array),
  decode: (from) => from.lengthPrefixed("bytes").slice(),
};

const STRING: ElementCoder = {
  encode: (value, into) => into.lengthPrefixed(new TextEncoder().encode(value as string)),
  decode: (from) => new TextDecoder().decode(from.lengthPrefixed("string_utf8")),
};

const VARINT: ElementCoder = {
  encode: (value, into) => into.varint(value as number | bigint),
  decode: (from) => from.varint("varint"),
};

const DOUBLE: ElementCoder = {
  encode: (value, into) => into.double(value as number),
  decode: (from) => from.double("double"),
};

const BOOL: ElementCoder = {
  encode: (value, into) => into.byte(value === true ? 1 : 0),
  decode: (from) => from.byte("bool") === 1,
};

const GLOBAL_WINDOW: ElementCoder = { encode: () => undefined, decode: () => "global" };

const INTERVAL_WINDOW: ElementCoder = {
  encode: (value, into) => {
    const { start, end } = value as IntervalWindow;
    into.timestamp(end as Timestamp);
    into.varint(end - start);
  },
  decode: (from): IntervalWindow => {
    const end = from.timestamp("interval_window");
    return { start: end - Number(from.varint("interval_window")), end };
  },
};

const LEAVES: Readonly<Record<string, ElementCoder>> = {
  "beam:coder:bytes:v1": BYTES,
  "beam:coder:string_utf8:v1": STRING,
  "beam:coder:varint:v1": VARINT,
  "beam:coder:double:v1": DOUBLE,
  "beam:coder:bool:v1": BOOL,
  "beam:coder:global_window:v1": GLOBAL_WINDOW,
  "beam:coder:interval_window:v1": INTERVAL_WINDOW,
};

function kvCoder(key: ElementCoder, value: ElementCoder): ElementCoder {
  return {
    encode: (pair, into) => {
      const [first, second] = pair as readonly [unknown, unknown];
      key.encode(first, into);
      value.encode(second, into);
    },
    decode: (from) => {
      const first = key.decode(from);
      return [first, value.decode(from)];
    },
  };
}

function iterableCoder(element: ElementCoder): ElementCoder {
  return {
    encode: (values, into) => {
      const all = [...(values as Iterable<unknown>)];
      into.int32(all.length);
      for (const value of all) element.encode(value, into);
    },
    decode: (from) => {
      const values: unknown[] = [];
      const count = from.int32("iterable");
      for (let index = 0; index < count; index++) values.push(element.decode(from));
      // Of unknown length: blocks, each with its count; an empty one is the end.
      if (count === -1)
        for (let block = from.length("iterable"); block > 0; block = from.length("iterable"))
          for (let index = 0; index < block; index++) values.push(element.decode(from));
      return values;
    },
  };
}

function lengthPrefixCoder(inner: ElementCoder): ElementCoder {
  return {
    encode: (value, into) => into.lengthPrefixed(encodeWith(inner, value)),
    decode: (from) => inner.decode(new ByteReader(from.lengthPrefixed("length_prefix"))),
  };
}

/** Encoded pane info: one byte, and behind it as many varints as its upper half says. */
export function readPane(from: ByteReader): Uint8Array {
  const start = from.position;
  const indices = from.byte("pane info") >>> 4;
  for (let index = 0; index < indices; index++) from.varint("pane info");
  return from.bytes.slice(start, from.position);
}

function windowedValueCoder(value: ElementCoder, window: ElementCoder): ElementCoder {
  return {
    encode: (element, into) => {
      const windowed = element as WindowedValue;
      into.timestamp(windowed.timestamp);
      into.int32(windowed.windows.length);
      for (const each of windowed.windows) window.encode(each, into);
      into.raw(windowed.pane);
      value.encode(windowed.value, into);
    },
    decode: (from): WindowedValue => {
      const timestamp = from.timestamp("windowed_value");
      const windows: Window[] = [];
      const count = from.int32("windowed_value");
      for (let index = 0; index < count; index++) windows.push(window.decode(from) as Window);
      const pane = readPane(from);
      return { value: value.decode(from), timestamp, windows, pane };
    },
  };
}

/** Compiles the coders of one descriptor, each once. */
export class ElementCoders {
  readonly #specs: Readonly<Record<string, Coder>>;
  readonly #compiled = new Map<string, ElementCoder>();

  constructor(specs: Readonly<Record<string, Coder>>) {
    this.#specs = specs;
  }

  /** @throws WeirError naming a coder that this harness does not know. */
  get(id: string): ElementCoder {
    let coder = this.#compiled.get(id);
    if (coder === undefined) this.#compiled.set(id, (coder = this.#compile(id)));
    return coder;
  }

  /** The ids of a coder's components. */
  components(id: string): readonly string[] {
    return this.#specs[id]?.componentCoderIds ?? [];
  }

  #compile(id: string): ElementCoder {
    const urn = this.#specs[id]?.spec?.urn ?? "not defined";
    const component = (index: number) => this.get(this.components(id)[index] ?? "");
    const leaf = LEAVES[urn];
    if (leaf !== undefined) return leaf;
    switch (urn) {
      case "beam:coder:kv:v1":
        return kvCoder(component(0), component(1));
      case "beam:coder:iterable:v1":
        return iterableCoder(component(0));
      case "beam:coder:length_prefix:v1":
        return lengthPrefixCoder(component(0));
      case "beam:coder:windowed_value:v1":
        return windowedValueCoder(component(0), component(1));
      default:
        throw userError("UNIMPLEMENTED", `The TypeScript harness does not know coder "${id}" (${urn}).`);
    }
  }
}
