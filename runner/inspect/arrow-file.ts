/**
 * Records as an Arrow IPC file or stream, written batch by batch, so that any number of them fits into memory.
 *
 * Columns are in COLUMNS, their meaning in FORMAT.md of runner/checkpoint. The file appears under its name when it is
 * whole.
 */
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import {
  AsyncByteQueue,
  Binary,
  type Data,
  type DataType,
  Field,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  Uint16,
  Uint32,
  Utf8,
} from "apache-arrow";
import { WeirError } from "../base/errors.ts";
import type { StateRecord } from "./state-record.ts";

export interface ExportedRecord extends StateRecord {
  readonly vertex: string;
  readonly subtask: number;
}

type Column =
  | { readonly name: string; readonly type: Utf8; readonly of: (record: ExportedRecord) => string | undefined }
  | { readonly name: string; readonly type: Binary; readonly of: (record: ExportedRecord) => Uint8Array | undefined }
  | {
      readonly name: string;
      readonly type: Uint16 | Uint32;
      readonly of: (record: ExportedRecord) => number | undefined;
    };

const COLUMNS: readonly Column[] = [
  { name: "vertex", type: new Utf8(), of: ({ vertex }) => vertex },
  { name: "subtask", type: new Uint32(), of: ({ subtask }) => subtask },
  { name: "table", type: new Utf8(), of: ({ table }) => table },
  { name: "transform", type: new Utf8(), of: ({ transform }) => transform },
  { name: "state_id", type: new Utf8(), of: ({ stateId }) => stateId },
  { name: "part", type: new Utf8(), of: ({ part }) => part },
  { name: "key_group", type: new Uint16(), of: ({ keyGroup }) => keyGroup },
  { name: "key", type: new Binary(), of: ({ key }) => key },
  { name: "window", type: new Binary(), of: ({ window }) => window },
  { name: "map_key", type: new Binary(), of: ({ mapKey }) => mapKey },
  { name: "value", type: new Binary(), of: ({ value }) => value },
  { name: "decoded_key", type: new Utf8(), of: ({ decodedKey }) => decodedKey },
  { name: "decoded_window", type: new Utf8(), of: ({ decodedWindow }) => decodedWindow },
  { name: "decoded_map_key", type: new Utf8(), of: ({ decodedMapKey }) => decodedMapKey },
  { name: "decoded_value", type: new Utf8(), of: ({ decodedValue }) => decodedValue },
];

const BATCH_ROWS = 8192;
const BATCH_BYTES = 4 * 1024 * 1024;

/**
 * @param format `file` has an index of its batches at the end, `stream` can be read from a pipe
 * @param metadata of the schema
 * @returns the number of records. @throws WeirError naming the file; it is not there then.
 */
export async function writeArrow(
  path: string,
  format: "file" | "stream",
  metadata: Readonly<Record<string, string>>,
  records: AsyncIterable<ExportedRecord>,
): Promise<number> {
  const output = await Output.open(`${path}.part`, path);
  try {
    const fields = COLUMNS.map(({ name, type }) => new Field(name, type, true));
    const schema = new Schema(fields, new Map(Object.entries(metadata)));
    const writer = (format === "file" ? new RecordBatchFileWriter() : new RecordBatchStreamWriter()).reset(
      output.sink,
      schema,
    );
    let count = 0;
    let pending: ExportedRecord[] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      writer.write(batchOf(schema, pending));
      pending = [];
      bytes = 0;
      await output.flush();
    };
    for await (const record of records) {
      pending.push(record);
      count++;
      bytes += record.value.length + record.key.length;
      if (pending.length >= BATCH_ROWS || bytes >= BATCH_BYTES) await flush();
    }
    // One at least, since the schema goes out with the first.
    if (pending.length > 0 || count === 0) await flush();
    writer.close();
    await output.commit();
    return count;
  } catch (failure) {
    await output.abort();
    throw failure;
  }
}

/** What the writer gives, until it is in the file. */
class Sink extends AsyncByteQueue {
  chunks: Uint8Array[] = [];

  override write(value: Parameters<AsyncByteQueue["write"]>[0]): void {
    const bytes = value as Uint8Array;
    if (bytes.byteLength > 0) this.chunks.push(bytes);
  }
}

/** A file that gets its name when it is whole. */
class Output {
  readonly sink = new Sink();
  readonly #temporary: string;
  readonly #path: string;
  readonly #handle: FileHandle;

  private constructor(temporary: string, path: string, handle: FileHandle) {
    this.#temporary = temporary;
    this.#path = path;
    this.#handle = handle;
  }

  static async open(temporary: string, path: string): Promise<Output> {
    try {
      return new Output(temporary, path, await open(temporary, "w"));
    } catch (cause) {
      throw cannotWrite(path, cause);
    }
  }

  async flush(): Promise<void> {
    const { chunks } = this.sink;
    this.sink.chunks = [];
    try {
      for (const chunk of chunks) await this.#handle.writeFile(chunk);
    } catch (cause) {
      throw cannotWrite(this.#path, cause);
    }
  }

  async commit(): Promise<void> {
    await this.flush();
    try {
      await this.#handle.close();
      await rename(this.#temporary, this.#path);
    } catch (cause) {
      throw cannotWrite(this.#path, cause);
    }
  }

  async abort(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await rm(this.#temporary, { force: true }).catch(() => undefined);
  }
}

function cannotWrite(path: string, cause: unknown): WeirError {
  return new WeirError({
    code: "UNAVAILABLE",
    domain: "external",
    message: `Cannot write ${path}: ${(cause as Error).message}.`,
    hint: "Give a file in a folder that is there, that can be written to and has room.",
    cause,
  });
}

function batchOf(schema: Schema, records: readonly ExportedRecord[]): RecordBatch {
  const children = COLUMNS.map((column) => dataOf(column, records));
  return new RecordBatch(
    schema,
    makeData({ type: new Struct(schema.fields), length: records.length, nullCount: 0, children }),
  );
}

function dataOf(column: Column, records: readonly ExportedRecord[]): Data<DataType> {
  const length = records.length;
  const nullBitmap = new Uint8Array(Math.ceil(length / 8));
  let nullCount = 0;
  const note = (value: unknown, index: number): void => {
    if (value === undefined) nullCount++;
    else nullBitmap[index >> 3] = (nullBitmap[index >> 3] as number) | (1 << (index & 7));
  };
  if (column.type instanceof Uint16 || column.type instanceof Uint32) {
    const values = records.map((record) => column.of(record) as number | undefined);
    values.forEach(note);
    const numbers = values.map((value) => value ?? 0);
    const data = column.type instanceof Uint16 ? Uint16Array.from(numbers) : Uint32Array.from(numbers);
    return makeData({ type: column.type, length, nullCount, nullBitmap, data } as Parameters<typeof makeData>[0]);
  }
  const offsets = new Int32Array(length + 1);
  const values = records.map((record) => {
    const value = column.of(record) as string | Uint8Array | undefined;
    return typeof value === "string" ? Buffer.from(value) : value;
  });
  values.forEach((value, index) => {
    note(value, index);
    offsets[index + 1] = (offsets[index] as number) + (value?.length ?? 0);
  });
  const bytes = new Uint8Array(offsets[length] as number);
  values.forEach((value, index) => value !== undefined && bytes.set(value, offsets[index]));
  const content = { length, nullCount, nullBitmap, valueOffsets: offsets, data: bytes };
  return makeData({ type: column.type, ...content } as Parameters<typeof makeData>[0]);
}
