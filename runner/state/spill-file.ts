/**
 * An append-only file for bytes that do not fit into memory, read back by position.
 *
 * Invariants: what was appended never changes. Its name is removed as soon as it is open, so that whatever becomes of
 * this process no file is left behind; the space is free again when it is closed. Appends may run at the same time:
 * each has its place before it begins.
 */
import { readSync } from "node:fs";
import { mkdir, open, unlink, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { randomHex } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import { type DiskRoom, diskRoom } from "./disk-room.ts";
import { spillFailure } from "./spill-failure.ts";

/** Opens the file behind a SpillFile; tests hand in one that fails. */
export type OpenFile = (path: string) => Promise<FileHandle>;

const openUnnamed: OpenFile = async (path) => {
  const handle = await open(path, "wx+", 0o600);
  await unlink(path);
  return handle;
};

/** More buffers in one writev than the kernel takes (IOV_MAX) are cut into several. */
const MAX_BUFFERS_PER_WRITE = 512;

export class SpillFile {
  readonly #handle: FileHandle;
  readonly #directory: string;
  #byteLength = 0;
  readonly #room: DiskRoom;
  readonly #closed = new AbortController();
  #closing: Promise<void> | undefined;

  private constructor(handle: FileHandle, directory: string, room: DiskRoom) {
    this.#handle = handle;
    this.#directory = directory;
    this.#room = room;
  }

  /**
   * @param label says what the file is for, in the name that it has for a moment.
   * @throws WeirError FAILED_PRECONDITION when the directory cannot be written, RESOURCE_EXHAUSTED when it stays full.
   */
  static async open(
    directory: string,
    label: string,
    openFile: OpenFile = openUnnamed,
    room: DiskRoom = diskRoom,
  ): Promise<SpillFile> {
    try {
      const never = new AbortController().signal;
      return await room.writing(directory, never, async () => {
        await mkdir(directory, { recursive: true });
        return new SpillFile(await openFile(join(directory, `${label}-${randomHex(8)}.spill`)), directory, room);
      });
    } catch (failure) {
      throw spillFailure(failure, directory, "create a spill file");
    }
  }

  get byteLength(): number {
    return this.#byteLength;
  }

  /**
   * Writes buffers one after the other, when there is room. The caller leaves them alone until it is done.
   * @returns where the first one begins. @throws WeirError; nothing of it may be read then.
   */
  async append(buffers: readonly Uint8Array[]): Promise<number> {
    const offset = this.#byteLength;
    for (const buffer of buffers) this.#byteLength += buffer.byteLength;
    try {
      await this.#room.writing(this.#directory, this.#closed.signal, async () => {
        let position = offset;
        for (let first = 0; first < buffers.length; first += MAX_BUFFERS_PER_WRITE)
          position = await this.#write(buffers.slice(first, first + MAX_BUFFERS_PER_WRITE), position);
      });
    } catch (failure) {
      throw spillFailure(failure, this.#directory, "write");
    }
    return offset;
  }

  async #write(buffers: Uint8Array[], position: number): Promise<number> {
    const { bytesWritten } = await this.#handle.writev(buffers, position);
    let skippedBytes = bytesWritten;
    let end = position;
    // The kernel may take less than it was given; the rest goes buffer by buffer.
    for (const buffer of buffers) {
      let done = Math.min(skippedBytes, buffer.byteLength);
      skippedBytes -= done;
      while (done < buffer.byteLength)
        done += (await this.#handle.write(buffer, done, buffer.byteLength - done, end + done)).bytesWritten;
      end += buffer.byteLength;
    }
    return end;
  }

  /** Bytes that an `append` which is done has written. The caller owns them. @throws WeirError DATA_LOSS. */
  async read(offset: number, byteLength: number): Promise<Uint8Array> {
    const target = Buffer.allocUnsafeSlow(byteLength);
    await this.readInto(target, 0, offset, byteLength);
    return target;
  }

  /** As `read`, into target[at, at + byteLength): for large reads, of which each would be new memory. */
  async readInto(target: Buffer, at: number, offset: number, byteLength: number): Promise<void> {
    let done = 0;
    while (done < byteLength) {
      const { bytesRead } = await this.#read(target, at + done, byteLength - done, offset + done);
      if (bytesRead === 0) throw this.#tooShort(offset + done);
      done += bytesRead;
    }
  }

  /** As `read`, in one blocking call: for few and small reads by those who cannot wait. */
  readNow(offset: number, byteLength: number): Uint8Array {
    const target = Buffer.allocUnsafeSlow(byteLength);
    for (let done = 0; done < byteLength;) {
      let bytesRead: number;
      try {
        bytesRead = readSync(this.#handle.fd, target, done, byteLength - done, offset + done);
      } catch (failure) {
        throw this.#unreadable((failure as Error).message, failure);
      }
      if (bytesRead === 0) throw this.#tooShort(offset + done);
      done += bytesRead;
    }
    return target;
  }

  async #read(target: Buffer, at: number, byteLength: number, position: number): Promise<{ bytesRead: number }> {
    try {
      return await this.#handle.read(target, at, byteLength, position);
    } catch (failure) {
      throw this.#unreadable((failure as Error).message, failure);
    }
  }

  #tooShort(position: number): WeirError {
    return new WeirError({
      code: "DATA_LOSS",
      domain: "external",
      message: `A spill file in ${this.#directory} ends at byte ${position}, before what was written to it.`,
    });
  }

  #unreadable(why: string, cause: unknown): WeirError {
    return new WeirError({
      code: "DATA_LOSS",
      domain: "external",
      message: `Cannot read back a spill file in ${this.#directory}: ${why}.`,
      cause,
    });
  }

  /** Frees its space after the reads and writes that are under way; those that wait for room fail. Idempotent. */
  close(): Promise<void> {
    this.#closed.abort();
    this.#closing ??= this.#handle.close();
    return this.#closing;
  }
}
