/**
 * Snapshot files: the rows of a task's delta or base, or of what was in flight at a checkpoint, as bytes on disk. Written once, never changed.
 *
 * Format, version 1; numbers are big-endian, varints are Beam's:
 *   header   "WEIRSNAP" (8), version (4), kind (1: 0 delta, 1 base, 2 in-flight), checkpoint id (8), CRC-32 of all that (4)
 *   blocks   length of the stored bytes (4), encoding (1: 0 as is, 1 zstd, 255 end), length of the content (4),
 *            CRC-32 of these nine bytes and the stored bytes (4), stored bytes
 *   end      a block of encoding 255 whose stored bytes are the number of rows (8), and nothing behind it
 * A block's content is records: 0, varint length, a table's name (tables are numbered as they come, over the file) |
 *   1, varint table, varint length, key, varint length, value | 2, varint table, varint length, key (the row is gone).
 * A row is at most once in a file; the files of a chain are read oldest first.
 *
 * Invariants: a file under its name is complete and on disk (written beside it, synced, renamed); a reader gives out no
 * row of a block whose checksum does not hold.
 */
import { createHash, type Hash } from "node:crypto";
import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { constants, crc32, zstdCompress, zstdDecompress } from "node:zlib";
import { WeirError } from "../../base/errors.ts";
import { damagedSnapshot, readRecords, RecordWriter } from "./snapshot-records.ts";
import type { ChangedRow } from "./state-delta.ts";

/** A complete snapshot file. */
export interface SnapshotFileInfo {
  readonly path: string;
  readonly byteLength: number;
  /** Lower-case hex. */
  readonly sha256: string;
  /** It belongs to its checkpoint only, and to no chain. */
  readonly inFlight?: boolean;
}

/** In the order of their numbers. */
const KINDS = ["delta", "base", "in-flight"] as const;

export interface SnapshotHeader {
  readonly kind: (typeof KINDS)[number];
  readonly checkpointId: number;
}

const SNAPSHOT_FORMAT_VERSION = 1;

const MAGIC = Buffer.from("WEIRSNAP");
const HEADER_BYTES = 25;
const BLOCK_HEADER_BYTES = 13;
/** Content of a block: what is serialised at a time, without giving way to the task. */
const BLOCK_BYTES = 256 * 1024;
/** A block is longer only where one row is; rows come from requests, which are shorter than this. */
const MAX_BLOCK_BYTES = 1024 * 1024 * 1024;

const DISK_FULL: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

const AS_IS = 0;
const ZSTD = 1;
const END = 255;

const compress = promisify<Buffer, object, Buffer>(zstdCompress);
const decompress = promisify<Buffer, object, Buffer>(zstdDecompress);
const COMPRESSION = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

/**
 * Writes rows, in slices between which the event loop runs.
 * @param path its folder is made if need be; a file of that name is replaced
 * @throws WeirError naming the file when the disk refuses; nothing is left then
 */
export async function writeSnapshotFile(
  path: string,
  header: SnapshotHeader,
  rows: Iterable<ChangedRow>,
): Promise<SnapshotFileInfo> {
  const temporary = `${path}.part`;
  let handle: FileHandle | undefined;
  try {
    await mkdir(dirname(path), { recursive: true });
    handle = await open(temporary, "w", 0o600);
    const output = new HashedOutput(handle);
    await output.write([encodeHeader(header)]);
    await writeBlocks(output, rows);
    await handle.sync();
    await handle.close();
    handle = undefined;
    await rename(temporary, path);
    await syncDirectory(dirname(path));
    return { path, byteLength: output.byteLength, sha256: output.sha256() };
  } catch (failure) {
    await handle?.close().catch(() => undefined);
    await rm(temporary, { force: true }).catch(() => undefined);
    if (failure instanceof WeirError) throw failure;
    throw new WeirError({
      code: DISK_FULL.has((failure as NodeJS.ErrnoException).code) ? "RESOURCE_EXHAUSTED" : "FAILED_PRECONDITION",
      domain: "external",
      message: `Cannot write the snapshot file ${path}: ${(failure as Error).message}.`,
      hint: "Its folder, the job's checkpoint directory or the worker's temporary one, needs room, and the worker's user must be allowed to write to it.",
      cause: failure,
    });
  }
}

async function writeBlocks(output: HashedOutput, rows: Iterable<ChangedRow>): Promise<void> {
  const records = new RecordWriter(BLOCK_BYTES + 4096);
  let rowCount = 0;
  for (const row of rows) {
    records.add(row);
    rowCount++;
    if (records.byteLength >= BLOCK_BYTES) await output.write(await encodeBlock(records.take()));
  }
  if (records.byteLength > 0) await output.write(await encodeBlock(records.take()));
  const count = Buffer.alloc(8);
  count.writeBigUInt64BE(BigInt(rowCount));
  await output.write(blockOf(END, count, count.length));
}

async function encodeBlock(content: Buffer): Promise<readonly Buffer[]> {
  const compressed = await compress(content, COMPRESSION);
  return compressed.length < content.length
    ? blockOf(ZSTD, compressed, content.length)
    : blockOf(AS_IS, content, content.length);
}

function blockOf(encoding: number, stored: Buffer, contentBytes: number): readonly Buffer[] {
  const header = Buffer.alloc(BLOCK_HEADER_BYTES);
  header.writeUInt32BE(stored.length, 0);
  header[4] = encoding;
  header.writeUInt32BE(contentBytes, 5);
  header.writeUInt32BE(crc32(stored, crc32(header.subarray(0, 9))), 9);
  return [header, stored];
}

function encodeHeader({ kind, checkpointId }: SnapshotHeader): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32BE(SNAPSHOT_FORMAT_VERSION, 8);
  header[12] = KINDS.indexOf(kind);
  header.writeBigUInt64BE(BigInt(checkpointId), 13);
  header.writeUInt32BE(crc32(header.subarray(0, 21)), 21);
  return header;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Appends to a file and knows what its bytes are. */
class HashedOutput {
  readonly #handle: FileHandle;
  readonly #hash: Hash = createHash("sha256");
  byteLength = 0;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(buffers: readonly Buffer[]): Promise<void> {
    for (const buffer of buffers) {
      this.#hash.update(buffer);
      for (let done = 0; done < buffer.length;) {
        const { bytesWritten } = await this.#handle.write(buffer, done, buffer.length - done, this.byteLength + done);
        done += bytesWritten;
      }
      this.byteLength += buffer.length;
    }
  }

  sha256(): string {
    return this.#hash.digest("hex");
  }
}

/**
 * The rows of a file, a block at a time. Values are copies that the caller owns.
 * @param expected what the writer said of the file; checked by the end
 * @throws WeirError naming the file: NOT_FOUND, DATA_LOSS when it is damaged or cut off, UNIMPLEMENTED for a format
 *   that this Weir does not know. Rows that were given out before may have to be dropped then.
 */
export async function* readSnapshotFile(
  path: string,
  expected?: Pick<SnapshotFileInfo, "byteLength" | "sha256">,
): AsyncGenerator<Iterable<ChangedRow>, void> {
  const input = await SnapshotInput.open(path);
  try {
    if (expected !== undefined && input.fileBytes !== expected.byteLength)
      throw damagedSnapshot(path, `it has ${input.fileBytes} bytes, not ${expected.byteLength}`);
    decodeHeader(await input.read(HEADER_BYTES), path);
    const tables: string[] = [];
    let rowCount = 0;
    for (;;) {
      const { encoding, content } = await readBlock(input, path);
      if (encoding === END) {
        if (content.length !== 8 || Number(content.readBigUInt64BE()) !== rowCount)
          throw damagedSnapshot(path, "rows are missing");
        break;
      }
      // All of them at once, lest the caller stop half-way: names of tables must be seen.
      const rows = decodeRows(content, tables, path);
      rowCount += rows.length;
      yield rows;
    }
    if (input.leftBytes > 0) throw damagedSnapshot(path, "there are bytes behind its end");
    const sha256 = input.sha256();
    if (expected !== undefined && sha256 !== expected.sha256)
      throw damagedSnapshot(path, `its SHA-256 is ${sha256}, not ${expected.sha256}`);
  } finally {
    await input.close();
  }
}

/** The header of a file, for tests. @internal @throws WeirError as `readSnapshotFile`. */
export async function readSnapshotHeader(path: string): Promise<SnapshotHeader> {
  const input = await SnapshotInput.open(path);
  try {
    return decodeHeader(await input.read(HEADER_BYTES), path);
  } finally {
    await input.close();
  }
}

function decodeRows(content: Buffer, tables: string[], path: string): ChangedRow[] {
  try {
    return [...readRecords(content, tables, path)];
  } catch (failure) {
    if (failure instanceof WeirError && failure.message.includes(path)) throw failure;
    throw damagedSnapshot(path, "a record cannot be read", failure);
  }
}

function decodeHeader(header: Buffer, path: string): SnapshotHeader {
  if (!header.subarray(0, 8).equals(MAGIC)) throw damagedSnapshot(path, "it is no snapshot file");
  const version = header.readUInt32BE(8);
  if (version !== SNAPSHOT_FORMAT_VERSION)
    throw new WeirError({
      code: "UNIMPLEMENTED",
      domain: "external",
      message: `The snapshot file ${path} has format ${version}; this Weir reads format ${SNAPSHOT_FORMAT_VERSION}.`,
      hint: "Restore it with the version of Weir that wrote it.",
    });
  if (header.readUInt32BE(21) !== crc32(header.subarray(0, 21))) throw damagedSnapshot(path, "its header is not whole");
  const kind = KINDS[header.readUInt8(12)];
  if (kind === undefined) throw damagedSnapshot(path, `it is of unknown kind ${header[12]}`);
  return { kind, checkpointId: Number(header.readBigUInt64BE(13)) };
}

async function readBlock(input: SnapshotInput, path: string): Promise<{ encoding: number; content: Buffer }> {
  const header = await input.read(BLOCK_HEADER_BYTES);
  const stored = await input.read(header.readUInt32BE(0));
  if (crc32(stored, crc32(header.subarray(0, 9))) !== header.readUInt32BE(9))
    throw damagedSnapshot(path, "the checksum of a block does not hold");
  const encoding = header.readUInt8(4);
  if (encoding === AS_IS || encoding === END) return { encoding, content: stored };
  const contentBytes = header.readUInt32BE(5);
  if (encoding !== ZSTD || contentBytes > MAX_BLOCK_BYTES)
    throw damagedSnapshot(path, `it has a block of unknown encoding ${encoding}`);
  try {
    return { encoding, content: await decompress(stored, { maxOutputLength: contentBytes }) };
  } catch (failure) {
    throw damagedSnapshot(path, "a block cannot be decompressed", failure);
  }
}

/** Reads a file from its beginning to its end, and hashes what it reads. */
class SnapshotInput {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #hash: Hash = createHash("sha256");
  readonly fileBytes: number;
  #position = 0;

  private constructor(path: string, handle: FileHandle, fileBytes: number) {
    this.#path = path;
    this.#handle = handle;
    this.fileBytes = fileBytes;
  }

  static async open(path: string): Promise<SnapshotInput> {
    try {
      const handle = await open(path, "r");
      return new SnapshotInput(path, handle, (await handle.stat()).size);
    } catch (failure) {
      throw new WeirError({
        code: "NOT_FOUND",
        domain: "external",
        message: `Cannot read the snapshot file ${path}: ${(failure as Error).message}.`,
        hint: "The checkpoint directory must be one that every worker can read.",
        cause: failure,
      });
    }
  }

  get leftBytes(): number {
    return this.fileBytes - this.#position;
  }

  async read(byteLength: number): Promise<Buffer> {
    if (byteLength > this.leftBytes) throw damagedSnapshot(this.#path, "it is cut off");
    const bytes = Buffer.allocUnsafeSlow(byteLength);
    for (let done = 0; done < byteLength;) {
      const { bytesRead } = await this.#handle.read(bytes, done, byteLength - done, this.#position + done);
      if (bytesRead === 0) throw damagedSnapshot(this.#path, "it is cut off");
      done += bytesRead;
    }
    this.#position += byteLength;
    this.#hash.update(bytes);
    return bytes;
  }

  sha256(): string {
    return this.#hash.digest("hex");
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}
