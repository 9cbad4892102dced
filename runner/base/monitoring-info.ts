/**
 * One MonitoringInfo as plain data, with its byte form. Structurally the same as the generated type, so that either
 * passes for the other; base itself knows no generated code.
 *
 * Invariant: whatever bytes come in, label names are data (no prototype is ever written to).
 * Source: MonitoringInfo of beam/model/pipeline/v1/metrics.proto.
 */
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";

export interface MonitoringInfo {
  readonly urn: string;
  /** URN of how the payload is encoded and merged. */
  readonly type: string;
  readonly payload: Uint8Array;
  readonly labels: Readonly<Record<string, string>>;
  /** Since when the value was measured. */
  readonly startTime: { readonly seconds: bigint; readonly nanos: number } | undefined;
}

const LENGTH_DELIMITED = 2;
const VARINT = 0;

export function encodeMonitoringInfo(info: MonitoringInfo): Uint8Array {
  const writer = new BinaryWriter();
  if (info.urn !== "") writer.tag(1, LENGTH_DELIMITED).string(info.urn);
  if (info.type !== "") writer.tag(2, LENGTH_DELIMITED).string(info.type);
  if (info.payload.length > 0) writer.tag(3, LENGTH_DELIMITED).bytes(info.payload);
  for (const [name, value] of Object.entries(info.labels)) {
    writer.tag(4, LENGTH_DELIMITED).fork();
    writer.tag(1, LENGTH_DELIMITED).string(name).tag(2, LENGTH_DELIMITED).string(value);
    writer.join();
  }
  if (info.startTime !== undefined) {
    writer.tag(5, LENGTH_DELIMITED).fork();
    if (info.startTime.seconds !== 0n) writer.tag(1, VARINT).int64(info.startTime.seconds);
    if (info.startTime.nanos !== 0) writer.tag(2, VARINT).int32(info.startTime.nanos);
    writer.join();
  }
  return writer.finish();
}

/** The payload is a view of `bytes`. @throws Error (any) when the bytes are no MonitoringInfo. */
export function decodeMonitoringInfo(bytes: Uint8Array): MonitoringInfo {
  let urn = "";
  let type = "";
  let payload: Uint8Array = new Uint8Array();
  let startTime: MonitoringInfo["startTime"];
  const labels: [string, string][] = [];
  eachField(bytes, (field, reader) => {
    if (field === 1) urn = reader.string();
    else if (field === 2) type = reader.string();
    else if (field === 3) payload = reader.bytes();
    else if (field === 4) labels.push(decodeLabel(reader.bytes()));
    else if (field === 5) startTime = decodeTimestamp(reader.bytes());
    else return false;
    return true;
  });
  // fromEntries defines own properties, even one called __proto__.
  return { urn, type, payload, labels: Object.fromEntries(labels), startTime };
}

/**
 * Calls `read` for each field of one message; it reads the value and returns true, or returns false to skip it.
 * @throws Error (any) when the bytes end within a field.
 */
export function eachField(
  bytes: Uint8Array,
  read: (field: number, reader: BinaryReader, wireType: number) => boolean,
): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!read(field, reader, wireType)) reader.skip(wireType, field);
  }
}

function decodeLabel(bytes: Uint8Array): [string, string] {
  let name = "";
  let value = "";
  eachField(bytes, (field, reader) => {
    if (field === 1) name = reader.string();
    else if (field === 2) value = reader.string();
    else return false;
    return true;
  });
  return [name, value];
}

function decodeTimestamp(bytes: Uint8Array): { seconds: bigint; nanos: number } {
  let seconds = 0n;
  let nanos = 0;
  eachField(bytes, (field, reader) => {
    if (field === 1) seconds = BigInt(reader.int64());
    else if (field === 2) nanos = reader.int32();
    else return false;
    return true;
  });
  return { seconds, nanos };
}
