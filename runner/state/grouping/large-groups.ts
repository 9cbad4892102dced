/**
 * Values of groups that are too large for one element: kept in pages of whole encoded values, in memory while there
 * is room and else in a spill file, and read page by page by the token that stands for them in the output.
 *
 * Invariants: pages do not change once written; a token stays good until `close`, so that a retried bundle can read
 * the same values again.
 */
import { present } from "../../base/assert.ts";
import { WeirError } from "../../base/errors.ts";
import { SpillFile } from "../spill-file.ts";

const NO_BYTES = new Uint8Array();

type Page = { readonly bytes: Buffer } | { readonly offset: number; readonly byteLength: number };

export interface LargeGroupPage {
  /** Whole encoded values, one after the other. */
  readonly data: Uint8Array;
  /** Empty after the last page. */
  readonly continuation: Uint8Array;
}

export class LargeGroups {
  readonly #spillDirectory: string;
  readonly #pageBytes: number;
  readonly #roomBytes: () => number;
  #groups: Page[][] = [];
  #file: Promise<SpillFile> | undefined;
  #memoryBytes = 0;
  #isClosed = false;

  /**
   * @param pageBytes a page ends before the value with which it would be larger; a single larger value is a page
   * @param roomBytes how much may be held in memory, all pages together
   */
  constructor(spillDirectory: string, pageBytes: number, roomBytes: () => number) {
    this.#spillDirectory = spillDirectory;
    this.#pageBytes = pageBytes;
    this.#roomBytes = roomBytes;
  }

  /** @param byteLength of all its values, or more */
  begin(byteLength: number): LargeGroupWriter {
    const pages: Page[] = [];
    this.#groups.push(pages);
    const token = Buffer.alloc(4);
    token.writeUInt32BE(this.#groups.length - 1);
    return new LargeGroupWriter(token, byteLength, this.#pageBytes, async (bytes) => {
      pages.push(await this.#keep(bytes));
    });
  }

  async #keep(bytes: Buffer): Promise<Page> {
    if (this.#memoryBytes + bytes.length <= this.#roomBytes()) {
      this.#memoryBytes += bytes.length;
      return { bytes };
    }
    this.#file ??= SpillFile.open(this.#spillDirectory, "large-groups");
    return { offset: await (await this.#file).append([bytes]), byteLength: bytes.length };
  }

  /** @throws WeirError NOT_FOUND for a token that is not from here. */
  async read(token: Uint8Array, continuation: Uint8Array, pageBytes: number): Promise<LargeGroupPage> {
    const pages = token.length === 4 ? this.#groups[readUint32(token)] : undefined;
    const first = continuation.length === 0 ? 0 : readUint32(continuation);
    if (pages === undefined || this.#isClosed || (first > 0 && first >= pages.length))
      throw new WeirError({
        code: "NOT_FOUND",
        domain: "internal",
        message: "The group that a state token stands for is not held by this task.",
      });
    const parts: Buffer[] = [];
    let index = first;
    for (let byteLength = 0; index < pages.length; index++) {
      const page = present(pages[index], "a page");
      const held = "bytes" in page ? page.bytes.length : page.byteLength;
      if (index > first && byteLength + held > pageBytes) break;
      byteLength += held;
      parts.push("bytes" in page ? page.bytes : await this.#load(page.offset, page.byteLength));
    }
    const only = parts.length === 1 ? parts[0] : undefined;
    return {
      data: only ?? Buffer.concat(parts),
      continuation: index === pages.length ? NO_BYTES : uint32(index),
    };
  }

  /** All values behind a token, page by page. */
  async *pages(token: Uint8Array): AsyncGenerator<Uint8Array> {
    let page = await this.read(token, NO_BYTES, this.#pageBytes);
    yield page.data;
    while (page.continuation.length > 0) {
      page = await this.read(token, page.continuation, this.#pageBytes);
      yield page.data;
    }
  }

  async #load(offset: number, byteLength: number): Promise<Buffer> {
    const file = await present(this.#file, "the file of large groups");
    return (await file.read(offset, byteLength)) as Buffer;
  }

  /** Drops all values. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#groups = [];
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) await (await file).close();
  }
}

export class LargeGroupWriter {
  readonly token: Buffer;
  readonly #pageBytes: number;
  readonly #keep: (page: Buffer) => Promise<void>;
  #leftBytes: number;
  #page: Buffer | undefined;
  #used = 0;

  constructor(token: Buffer, byteLength: number, pageBytes: number, keep: (page: Buffer) => Promise<void>) {
    this.token = token;
    this.#pageBytes = pageBytes;
    this.#leftBytes = byteLength;
    this.#keep = keep;
  }

  /** Adds the value source[start, end). A promise must be awaited before the next. */
  add(source: Buffer, start: number, end: number): Promise<void> | void {
    const page = this.#page;
    if (page !== undefined && this.#used + end - start <= page.length) {
      source.copy(page, this.#used, start, end);
      this.#used += end - start;
      return undefined;
    }
    return this.#addToNext(source, start, end);
  }

  async #addToNext(source: Buffer, start: number, end: number): Promise<void> {
    await this.finish();
    const page = Buffer.allocUnsafeSlow(Math.max(end - start, Math.min(this.#pageBytes, this.#leftBytes)));
    source.copy(page, 0, start, end);
    this.#page = page;
    this.#used = end - start;
  }

  /** Keeps the last page. */
  async finish(): Promise<void> {
    const page = this.#page;
    if (page === undefined) return;
    this.#page = undefined;
    this.#leftBytes = Math.max(1, this.#leftBytes - this.#used);
    // What is kept does not keep a buffer that is mostly empty.
    const isFull = this.#used * 2 >= page.length;
    await this.#keep(isFull ? page.subarray(0, this.#used) : Buffer.from(page.subarray(0, this.#used)));
  }
}

function readUint32(bytes: Uint8Array): number {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).readUInt32BE(0);
}

function uint32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
