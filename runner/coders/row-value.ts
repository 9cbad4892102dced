/**
 * Encoded rows as objects of their fields; as row-boundary.ts, which walks over the same bytes. A logical type is read
 * as what represents it, and times and decimals as text.
 *
 * Source: beam:coder:row:v1 of beam_runner_api.proto; RowCoderImpl of the Python SDK.
 */
import { AtomicType, type Field, type FieldType, Schema } from "../../proto/gen/schema.ts";
import { WeirError } from "../base/errors.ts";
import { readExactMs } from "../time/timestamp.ts";
import { malformed, readVarint, varintEnd } from "./byte-reader.ts";
import {
  base64,
  doubleOf,
  fixed,
  iterable,
  type Json,
  numberOf,
  prefixed,
  readInt64,
  text,
  timeText,
  type ValueReader,
} from "./value-reader.ts";

/** @param schema that `compileRowSkip` takes. @throws WeirError as that. */
export function compileRowReader(schema: Uint8Array, what: string): ValueReader {
  return rowReader(Schema.decode(schema), what);
}

function rowReader(schema: Schema, what: string): ValueReader {
  const positionOf = (field: Field, index: number): number =>
    schema.encodingPositionsSet ? field.encodingPosition : index;
  const fields = schema.fields
    .map((field, index) => ({ field, index, at: positionOf(field, index) }))
    .sort((left, right) => left.at - right.at)
    .map(({ field, index }) => ({ name: field.name, index, read: valueReader(field.type, `${what}.${field.name}`) }));
  const readMask = prefixed(what, base64);
  return (bytes, position) => {
    const fieldCount = readVarint(bytes, position, what);
    if (fieldCount > fields.length) throw malformed(what, bytes, position, "has more fields than its schema");
    const maskAt = varintEnd(bytes, position, what);
    const maskBytes = readVarint(bytes, maskAt, what);
    const maskStart = varintEnd(bytes, maskAt, what);
    let at = readMask(bytes, maskAt).end;
    const row: Record<string, Json> = {};
    for (const { name, index, read } of fields.slice(0, fieldCount)) {
      const isNull = index >> 3 < maskBytes && ((bytes[maskStart + (index >> 3)] as number) & (1 << (index & 7))) !== 0;
      if (isNull) row[name] = null;
      else ({ value: row[name], end: at } = read(bytes, at));
    }
    return { value: row, end: at };
  };
}

function elementReader(type: FieldType | undefined, what: string): ValueReader {
  const read = valueReader(type, what);
  if (type?.nullable !== true) return read;
  return (bytes, position) => {
    if (position >= bytes.length) throw malformed(what, bytes, position);
    return bytes[position] === 0 ? { value: null, end: position + 1 } : read(bytes, position + 1);
  };
}

function valueReader(type: FieldType | undefined, what: string): ValueReader {
  const info = type?.typeInfo;
  switch (info?.$case) {
    case "atomicType":
      return atomicReader(info.value, what);
    case "arrayType":
    case "iterableType":
      return iterable(elementReader(info.value.elementType, what), what);
    case "mapType": {
      const key = elementReader(info.value.keyType, what);
      const value = elementReader(info.value.valueType, what);
      const entry: ValueReader = (bytes, position) => {
        const first = key(bytes, position);
        const second = value(bytes, first.end);
        return { value: [first.value, second.value], end: second.end };
      };
      return iterable(entry, what);
    }
    case "rowType":
      if (info.value.schema !== undefined) return rowReader(info.value.schema, what);
      break;
    case "logicalType":
      if (info.value.urn === "beam:logical_type:millis_instant:v1")
        return fixed(8, what, (bytes, at) => timeText(readExactMs(bytes, at)));
      if (info.value.urn === "beam:logical_type:decimal:v1") return decimalReader(what);
      if (info.value.representation !== undefined) return elementReader(info.value.representation, what);
      break;
    default:
  }
  throw new WeirError({ code: "UNIMPLEMENTED", domain: "user", message: `The type of ${what} is none that is known.` });
}

/** The scale, then the unscaled value with its length, big-endian and signed: as "VALUEe-SCALE". */
function decimalReader(what: string): ValueReader {
  const unscaled = prefixed(what, (bytes) => {
    const raw = BigInt(bytes.length === 0 ? 0 : `0x${bytes.toString("hex")}`);
    return String(BigInt.asIntN(bytes.length * 8, raw));
  });
  return (bytes, position) => {
    const scaleEnd = varintEnd(bytes, position, what);
    const { value, end } = unscaled(bytes, scaleEnd);
    return { value: `${value as string}e${-readInt64(bytes, position, scaleEnd)}`, end };
  };
}

function atomicReader(type: AtomicType, what: string): ValueReader {
  switch (type) {
    case AtomicType.BYTE:
      return fixed(1, what, (bytes, at) => bytes.readInt8(at));
    case AtomicType.INT16:
      return fixed(2, what, (bytes, at) => bytes.readInt16BE(at));
    case AtomicType.INT32:
    case AtomicType.INT64:
      return (bytes, position) => {
        const end = varintEnd(bytes, position, what);
        const value = readInt64(bytes, position, end);
        // The Java SDK writes a negative INT32 as five bytes.
        return { value: numberOf(type === AtomicType.INT32 ? BigInt.asIntN(32, value) : value), end };
      };
    case AtomicType.FLOAT:
      return fixed(4, what, (bytes, at) => doubleOf(bytes.readFloatBE(at)));
    case AtomicType.DOUBLE:
      return fixed(8, what, (bytes, at) => doubleOf(bytes.readDoubleBE(at)));
    case AtomicType.STRING:
      return prefixed(what, text);
    case AtomicType.BYTES:
      return prefixed(what, base64);
    case AtomicType.BOOLEAN:
      return fixed(1, what, (bytes, at) => bytes[at] === 1);
    default:
      throw new WeirError({
        code: "UNIMPLEMENTED",
        domain: "user",
        message: `The atomic type ${type} of ${what} is none that is known.`,
      });
  }
}
