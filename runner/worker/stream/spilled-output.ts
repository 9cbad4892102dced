/**
 * What a bundle emits beyond what its task may hold in memory: chunks that lie in a file until the consumer takes them
 * out of its channel.
 *
 * Invariants: such a chunk is read when its bytes are first asked for, and kept from then on; it must not be asked
 * before `add` is done. The file has no name, and is closed when all of its chunks have been read or `close` is called.
 * A chunk is read in one blocking call: it is no larger than what the harness sent in one message.
 */
import type { Chunk } from "../../base/chunk.ts";
import { SpillFile } from "../../state/spill-file.ts";

export class SpilledOutput {
  readonly #file: Promise<SpillFile>;
  readonly #onClose: () => void;
  #unread = 0;
  #sealed = false;
  #isClosed = false;

  /** @param onClose called once, when the file is not needed any more */
  constructor(directory: string, onClose: () => void) {
    this.#onClose = onClose;
    this.#file = SpillFile.open(directory, "bundle-output");
    this.#file.catch(() => undefined);
  }

  /** Puts a chunk into the file. @throws WeirError when the disk refuses; the bundle has failed then. */
  async add(chunk: Chunk): Promise<SpilledChunk> {
    this.#unread++;
    const file = await this.#file;
    const { data, elementCount } = chunk;
    const { byteLength } = data;
    const offset = await file.append([data]);
    // Keeps nothing of the chunk itself.
    return new SpilledChunk(elementCount, byteLength, this.#reader(file, offset, byteLength));
  }

  #reader(file: SpillFile, offset: number, byteLength: number): ReadSpilled {
    return (isLast) => {
      const bytes = file.readNow(offset, byteLength);
      if (isLast) this.#unread--;
      if (this.#sealed && this.#unread === 0) this.close();
      return bytes;
    };
  }

  /** Nothing more will be added. */
  seal(): void {
    this.#sealed = true;
    if (this.#unread === 0) this.close();
  }

  /** What has not been read is lost. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#onClose();
    this.#file.then((file) => file.close()).catch(() => undefined);
  }
}

/** @param isLast it will not be read again */
type ReadSpilled = (isLast: boolean) => Uint8Array;

export class SpilledChunk implements Chunk {
  readonly elementCount: number;
  readonly byteLength: number;
  #read: ReadSpilled | undefined;
  #data: Uint8Array | undefined;

  constructor(elementCount: number, byteLength: number, read: ReadSpilled) {
    this.elementCount = elementCount;
    this.byteLength = byteLength;
    this.#read = read;
  }

  get data(): Uint8Array {
    if (this.#read !== undefined) {
      this.#data = this.#read(true);
      this.#read = undefined;
    }
    return this.#data as Uint8Array;
  }

  /** What `data` is, without keeping it. */
  passingData(): Uint8Array {
    return this.#read?.(false) ?? this.data;
  }
}

/** Without reading what is on disk. */
export function chunkBytes(chunk: Chunk): number {
  return chunk instanceof SpilledChunk ? chunk.byteLength : chunk.data.byteLength;
}

/** For someone who does not take the chunk out of its channel: what is on disk stays there. */
export function passingData(chunk: Chunk): Uint8Array {
  return chunk instanceof SpilledChunk ? chunk.passingData() : chunk.data;
}
