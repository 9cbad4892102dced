/**
 * The artifact files of jobs on disk, each under the sha256 of its content. An owner (one prepared job) holds
 * references; a file goes when its last owner releases it.
 *
 * Invariants: a file has its final name only when it is complete and its checksum is known; nothing outside of the
 * store's own folder is ever read or written, whatever a client sends.
 */
import { createHash } from "node:crypto";
import { constants, rmSync } from "node:fs";
import { access, mkdir, open, readdir, rename, rm, rmdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { randomHex } from "../base/clock.ts";
import { userError, WeirError } from "../base/errors.ts";

export interface StoredArtifact {
  /** Absolute; of use only with this store's `read`. */
  readonly path: string;
  readonly sha256: string;
  readonly byteLength: number;
}

export interface ArtifactStoreInit {
  /** Shared with other servers; this one uses a folder of its own in it. */
  readonly directory: string;
  readonly serverId: string;
  /** False: files stay for good, as with Beam's `--clean-artifacts-per-job false`. */
  readonly clean: boolean;
  /** Files of jobs that go on, each with its owners: they were put by an earlier process of this server. */
  readonly kept?: ReadonlyMap<string, ReadonlySet<string>>;
}

const READ_CHUNK_BYTES = 1024 * 1024;
const SHA256_HEX = /^[0-9a-f]{64}$/;

export class ArtifactStore {
  readonly #files: string;
  readonly #incoming: string;
  readonly #clean: boolean;
  /** The shared folder, where it was made by us. */
  #madeFolder: string | undefined;
  /** sha256 → owners. */
  readonly #owners = new Map<string, Set<string>>();

  private constructor(root: string, clean: boolean) {
    this.#files = join(root, "files");
    this.#incoming = join(root, "incoming");
    this.#clean = clean;
  }

  /** @throws WeirError naming the folder when it cannot be made or written. */
  static async open(init: ArtifactStoreInit): Promise<ArtifactStore> {
    const root = join(init.directory, `weir-${init.serverId}`);
    const store = new ArtifactStore(root, init.clean);
    try {
      if ((await mkdir(init.directory, { recursive: true })) !== undefined) store.#madeFolder = init.directory;
      await rm(store.#incoming, { recursive: true, force: true });
      await mkdir(store.#files, { recursive: true });
      await store.#keep(init.kept ?? new Map());
      await mkdir(store.#incoming, { recursive: true });
      await access(store.#files, constants.W_OK);
    } catch (thrown) {
      throw new WeirError({
        code: "FAILED_PRECONDITION",
        domain: "user",
        message: `The artifacts folder ${init.directory} cannot be written: ${(thrown as Error).message}.`,
        hint: "Choose another one with --artifacts-dir.",
        cause: thrown,
      });
    }
    return store;
  }

  /** What else an earlier process of this server left belongs to jobs that are over. */
  async #keep(kept: ReadonlyMap<string, ReadonlySet<string>>): Promise<void> {
    for (const name of await readdir(this.#files)) {
      const owners = kept.get(name);
      if (owners !== undefined) this.#owners.set(name, new Set(owners));
      else if (this.#clean) await rm(join(this.#files, name), { recursive: true, force: true });
    }
  }

  /** Where a file that has an owner is. */
  pathOf(sha256: string): string | undefined {
    return this.#owners.has(sha256) ? join(this.#files, sha256) : undefined;
  }

  /**
   * Writes one artifact for `owner`; the next chunk is asked for when the last one is written.
   * @param expectedSha256 lower- or upper-case hex, or empty when the client gave none.
   * @param label names the artifact in errors.
   * @throws WeirError INVALID_ARGUMENT for a wrong checksum, RESOURCE_EXHAUSTED for a full disk.
   */
  async put(
    owner: string,
    chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    expectedSha256: string,
    label: string,
  ): Promise<StoredArtifact> {
    const temporary = join(this.#incoming, randomHex(16));
    try {
      const { sha256, byteLength } = await writeHashed(temporary, chunks);
      if (expectedSha256 !== "" && expectedSha256.toLowerCase() !== sha256) {
        throw userError(
          "INVALID_ARGUMENT",
          `Artifact ${label} has sha256 ${sha256} (${byteLength} bytes), but ${expectedSha256} was promised.`,
          "It changed while it was sent, or its description is stale: submit the pipeline again.",
        );
      }
      // The reference comes first, so that no release in between takes the file away.
      const owners = this.#owners.get(sha256) ?? new Set();
      this.#owners.set(sha256, owners.add(owner));
      const path = join(this.#files, sha256);
      await rename(temporary, path);
      return { path, sha256, byteLength };
    } catch (thrown) {
      await rm(temporary, { force: true });
      throw diskError(thrown, label);
    }
  }

  /**
   * The content of a file that `put` returned, in chunks.
   * @throws WeirError INVALID_ARGUMENT for any other path, NOT_FOUND when the file is gone.
   */
  async *read(path: string): AsyncGenerator<Uint8Array, void, undefined> {
    const name = basename(path);
    if (dirname(path) !== this.#files || !SHA256_HEX.test(name))
      throw userError("INVALID_ARGUMENT", `${JSON.stringify(path)} is not an artifact of this server.`);
    const file = await open(join(this.#files, name), "r").catch((cause: unknown) => {
      throw new WeirError({
        code: "NOT_FOUND",
        domain: "user",
        message: `Artifact ${name} is no longer kept: its job is over.`,
        cause,
      });
    });
    try {
      for (;;) {
        // A new buffer each time: the last one may still wait in a socket's queue.
        const { bytesRead, buffer } = await file.read(new Uint8Array(READ_CHUNK_BYTES), 0, READ_CHUNK_BYTES);
        if (bytesRead === 0) return;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
  }

  /** Drops the owner's references, and the files that nobody else holds. Idempotent. */
  release(owner: string): void {
    for (const [sha256, owners] of this.#owners) {
      if (!owners.delete(owner) || owners.size > 0) continue;
      this.#owners.delete(sha256);
      // In the same step as the decision: a `put` of the same content may come with the next one.
      if (this.#clean) rmSync(join(this.#files, sha256), { force: true });
    }
  }

  /** Removes the store's folder, unless files are to stay: those of jobs that another server goes on with. Idempotent. */
  async close(): Promise<void> {
    if (!this.#clean || this.#owners.size > 0) return;
    await rm(dirname(this.#files), { recursive: true, force: true });
    // Another server may have come into it.
    if (this.#madeFolder !== undefined) await rmdir(this.#madeFolder).catch(() => undefined);
  }
}

async function writeHashed(
  path: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<{ sha256: string; byteLength: number }> {
  const file = await open(path, "wx", 0o600);
  try {
    const hash = createHash("sha256");
    let byteLength = 0;
    for await (const chunk of chunks) {
      hash.update(chunk);
      for (let offset = 0; offset < chunk.byteLength;) {
        const { bytesWritten } = await file.write(chunk, offset);
        offset += bytesWritten;
      }
      byteLength += chunk.byteLength;
    }
    return { sha256: hash.digest("hex"), byteLength };
  } finally {
    await file.close();
  }
}

function diskError(thrown: unknown, label: string): unknown {
  const code = (thrown as NodeJS.ErrnoException | undefined)?.code;
  if (code !== "ENOSPC" && code !== "EDQUOT") return thrown;
  return new WeirError({
    code: "RESOURCE_EXHAUSTED",
    domain: "external",
    message: `The disk is full: artifact ${label} could not be stored.`,
    hint: "Free space, or choose another disk with --artifacts-dir.",
    cause: thrown,
  });
}
