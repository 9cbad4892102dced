/**
 * In-flight data as rows of a snapshot: what a barrier has overtaken. They lie in a file of their own, which belongs to
 * one checkpoint (`checkpoint/FORMAT.md`), and are read once, when the task is restored.
 *
 * Tables, by where the data was: `in-flight-stage` taken out of channels and not committed, `in-flight-side` side input
 * that waited for a bundle's end, `in-flight-input` in channels, `in-flight-output` not sent yet. Rows in the order of
 * their keys are in the order in which they must be read. Pure.
 */
import type { Chunk } from "../../../base/chunk.ts";
import { WeirError } from "../../../base/errors.ts";
import { NO_KEY_GROUP, type StateRows } from "../../../state/state-rows.ts";
import type { Timestamp } from "../../../time/timestamp.ts";
import type { InFlightItem } from "../channel-queue.ts";
import { passingData } from "../spilled-output.ts";
import type { StageEntry } from "../stage-queue.ts";

/** Part of the snapshot format. */
export const IN_FLIGHT_TABLES = {
  stage: "in-flight-stage",
  side: "in-flight-side",
  input: "in-flight-input",
  output: "in-flight-output",
} as const;

export interface InFlightRow {
  readonly table: string;
  readonly key: string;
  readonly value: Uint8Array;
}

/** Of a channel, or of the side inputs as a whole: then the other end is nothing. */
export interface InFlightOf {
  readonly datasetId: string;
  /** The producer's subtask of input, the consumer's of output. */
  readonly otherSubtask: number;
  /** Of output; otherwise empty. */
  readonly consumerVertexId: string;
}

/** The last watermark that was read of a channel, where it has one. */
export type InFlightEntry = InFlightItem | { readonly kind: "read"; readonly timestamp: Timestamp };

export interface InFlightOfChannel extends InFlightOf {
  readonly entry: InFlightEntry;
}

/** All that a task has in flight. */
export interface InFlight {
  readonly stage: readonly StageEntry[];
  readonly side: readonly InFlightOfChannel[];
  readonly input: readonly InFlightOfChannel[];
  readonly output: readonly InFlightOfChannel[];
}

const DATA = 0;
const WATERMARK = 1;
const READ = 2;
/** Flags of a stage's data. */
const RELEASED = 1;
const RAW = 2;

/** @param subtaskIndex begins the keys, so that rows of several subtasks can lie side by side */
export function* rowsOfInFlight(inFlight: InFlight, subtaskIndex: number): Iterable<InFlightRow> {
  let sequence = 0;
  const row = (table: string, value: Uint8Array): InFlightRow => ({
    table,
    key: NO_KEY_GROUP + uint(subtaskIndex, 4).toString("latin1") + uint(sequence++, 6).toString("latin1"),
    value,
  });
  for (const entry of inFlight.stage) yield row(IN_FLIGHT_TABLES.stage, encodeStageEntry(entry));
  for (const part of ["side", "input", "output"] as const)
    for (const each of inFlight[part]) yield row(IN_FLIGHT_TABLES[part], encodeOfChannel(each));
}

/** Takes the rows out of the tables. @throws WeirError DATA_LOSS for rows that are not of this format */
export function takeInFlight(rows: StateRows): InFlight {
  return {
    stage: take(rows, IN_FLIGHT_TABLES.stage, decodeStageEntry),
    side: take(rows, IN_FLIGHT_TABLES.side, decodeOfChannel),
    input: take(rows, IN_FLIGHT_TABLES.input, decodeOfChannel),
    output: take(rows, IN_FLIGHT_TABLES.output, decodeOfChannel),
  };
}

function take<T>(rows: StateRows, name: string, decode: (value: Uint8Array) => T): T[] {
  const table = rows.table(name);
  const entries = [...table.entries()].sort(([left], [right]) => (left < right ? -1 : 1));
  for (const [key] of entries) table.delete(key);
  return entries.map(([, value]) => {
    try {
      return decode(value);
    } catch (cause) {
      throw new WeirError({
        code: "DATA_LOSS",
        domain: "internal",
        message: `A row of "${name}" in the snapshot cannot be read.`,
        cause,
      });
    }
  });
}

/** Kind (1); of data: flags (1), hold (8), elements' number (4), elements; of a watermark: time (8). */
function encodeStageEntry(entry: StageEntry): Uint8Array {
  if (entry.kind === "watermark") return Buffer.concat([Buffer.of(WATERMARK), float64(entry.timestamp)]);
  const flags = (entry.released ? RELEASED : 0) | (entry.raw ? RAW : 0);
  return Buffer.concat([Buffer.of(DATA, flags), float64(entry.hold), encodeChunk(entry.chunk)]);
}

function decodeStageEntry(value: Uint8Array): StageEntry {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (bytes[0] === WATERMARK) return { kind: "watermark", timestamp: bytes.readDoubleBE(1) as Timestamp };
  if (bytes[0] !== DATA) throw unknownKind(bytes[0]);
  const flags = bytes.readUInt8(1);
  return {
    kind: "data",
    released: (flags & RELEASED) !== 0,
    raw: (flags & RAW) !== 0,
    hold: bytes.readDoubleBE(2) as Timestamp,
    chunk: decodeChunk(bytes.subarray(10)),
  };
}

/**
 * The other end's subtask (4), lengths of ids (2 each) and ids (dataset, consumer's vertex), kind (1); of data:
 * elements' number (4), elements; else: time (8).
 */
function encodeOfChannel({ datasetId, otherSubtask, consumerVertexId, entry }: InFlightOfChannel): Uint8Array {
  const parts: Uint8Array[] = [uint(otherSubtask, 4)];
  for (const id of [datasetId, consumerVertexId]) {
    const bytes = Buffer.from(id, "utf8");
    parts.push(uint(bytes.length, 2), bytes);
  }
  if (entry.kind === "data") parts.push(Buffer.of(DATA), encodeChunk(entry.chunk));
  else parts.push(Buffer.of(entry.kind === "watermark" ? WATERMARK : READ), float64(entry.timestamp));
  return Buffer.concat(parts);
}

function decodeOfChannel(value: Uint8Array): InFlightOfChannel {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  let at = 4;
  const ids = [0, 0].map(() => {
    const end = at + 2 + bytes.readUInt16BE(at);
    const id = bytes.toString("utf8", at + 2, end);
    at = end;
    return id;
  });
  const of = { datasetId: ids[0] ?? "", consumerVertexId: ids[1] ?? "", otherSubtask: bytes.readUInt32BE(0) };
  const kind = bytes[at];
  if (kind === DATA) return { ...of, entry: { kind: "data", chunk: decodeChunk(bytes.subarray(at + 1)) } };
  if (kind !== WATERMARK && kind !== READ) throw unknownKind(kind);
  const timestamp = bytes.readDoubleBE(at + 1) as Timestamp;
  return { ...of, entry: { kind: kind === READ ? "read" : "watermark", timestamp } };
}

function encodeChunk(chunk: Chunk): Uint8Array {
  return Buffer.concat([uint(chunk.elementCount, 4), passingData(chunk)]);
}

function decodeChunk(bytes: Buffer): Chunk {
  return { elementCount: bytes.readUInt32BE(0), data: bytes.subarray(4) };
}

function unknownKind(kind: number | undefined): Error {
  return new Error(`in-flight data of unknown kind ${kind}`);
}

function uint(value: number, byteLength: number): Buffer {
  const bytes = Buffer.alloc(byteLength);
  bytes.writeUIntBE(value, 0, byteLength);
  return bytes;
}

function float64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
}
