/**
 * Where an encoded row ends: number of fields, null mask, then the fields that are there in the order of their
 * encoding positions.
 *
 * Source: beam:coder:row:v1 of beam_runner_api.proto; RowCoderImpl of the Python SDK.
 */
import { AtomicType, type Field, type FieldType, Schema } from "../../proto/gen/schema.ts";
import { WeirError } from "../base/errors.ts";
import { malformed, readVarint, varintEnd } from "./byte-reader.ts";
import {
  skipBool,
  skipFixed,
  skipIterable,
  skipLengthPrefixed,
  skipNullable,
  skipPair,
  type Skip,
} from "./primitive-boundary.ts";

/**
 * @param schema encoded org.apache.beam.model.pipeline.v1.Schema
 * @throws WeirError UNIMPLEMENTED for a field of a type that is not standard, INVALID_ARGUMENT for garbage
 */
export function compileRowSkip(schema: Uint8Array, what: string): Skip {
  let decoded: Schema;
  try {
    decoded = Schema.decode(schema);
  } catch (cause) {
    const message = `The schema of coder ${what} cannot be decoded.`;
    throw new WeirError({ code: "INVALID_ARGUMENT", domain: "user", message, cause });
  }
  return rowSkip(decoded, what);
}

function rowSkip(schema: Schema, what: string): Skip {
  const positionOf = (field: Field, index: number): number =>
    schema.encodingPositionsSet ? field.encodingPosition : index;
  const fields = schema.fields
    .map((field, index) => ({ field, index, at: positionOf(field, index) }))
    .sort((left, right) => left.at - right.at)
    .map(({ field, index }) => ({ index, skip: valueSkip(field.type, `${what}, field "${field.name}"`) }));
  const skipMask = skipLengthPrefixed(what);
  return (bytes, position) => {
    const fieldCount = readVarint(bytes, position, what);
    // Fields that the schema does not have cannot be walked.
    if (fieldCount > fields.length) throw malformed(what, bytes, position, "has more fields than its schema");
    const maskAt = varintEnd(bytes, position, what);
    const maskBytes = readVarint(bytes, maskAt, what);
    const maskStart = varintEnd(bytes, maskAt, what);
    let at = skipMask(bytes, maskAt);
    for (let order = 0; order < fieldCount; order++) {
      const { index, skip } = fields[order] as (typeof fields)[number];
      const isNull = index >> 3 < maskBytes && ((bytes[maskStart + (index >> 3)] as number) & (1 << (index & 7))) !== 0;
      if (!isNull) at = skip(bytes, at);
    }
    return at;
  };
}

/** Within arrays and maps a nullable value has a byte before it; a row's own fields have the mask instead. */
function elementSkip(type: FieldType | undefined, what: string): Skip {
  const skip = valueSkip(type, what);
  return type?.nullable === true ? skipNullable(skip, what) : skip;
}

function valueSkip(type: FieldType | undefined, what: string): Skip {
  const info = type?.typeInfo;
  switch (info?.$case) {
    case "atomicType":
      return atomicSkip(info.value, what);
    case "arrayType":
    case "iterableType":
      return skipIterable(elementSkip(info.value.elementType, what), false, what);
    case "mapType":
      return skipIterable(
        skipPair(elementSkip(info.value.keyType, what), elementSkip(info.value.valueType, what)),
        false,
        what,
      );
    case "rowType":
      if (info.value.schema !== undefined) return rowSkip(info.value.schema, what);
      break;
    case "logicalType":
      switch (info.value.urn) {
        case "beam:logical_type:millis_instant:v1":
          return skipFixed(8, what);
        case "beam:logical_type:decimal:v1":
          // The scale, then the unscaled value with its length.
          return skipPair((bytes, position) => varintEnd(bytes, position, what), skipLengthPrefixed(what));
        default:
          if (info.value.representation !== undefined) return elementSkip(info.value.representation, what);
      }
      break;
    default:
  }
  throw new WeirError({
    code: "UNIMPLEMENTED",
    domain: "user",
    message: `The runner cannot walk ${what}: its type is not one of the standard ones.`,
  });
}

function atomicSkip(type: AtomicType, what: string): Skip {
  switch (type) {
    case AtomicType.BYTE:
      return skipFixed(1, what);
    case AtomicType.INT16:
      return skipFixed(2, what);
    case AtomicType.INT32:
    case AtomicType.INT64:
      return (bytes, position) => varintEnd(bytes, position, what);
    case AtomicType.FLOAT:
      return skipFixed(4, what);
    case AtomicType.DOUBLE:
      return skipFixed(8, what);
    case AtomicType.STRING:
    case AtomicType.BYTES:
      return skipLengthPrefixed(what);
    case AtomicType.BOOLEAN:
      return skipBool(what);
    default:
      throw new WeirError({
        code: "UNIMPLEMENTED",
        domain: "user",
        message: `The runner cannot walk ${what}: it does not know atomic type ${type}.`,
      });
  }
}
