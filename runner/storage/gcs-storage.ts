/**
 * Checkpoints in a bucket of Google Cloud Storage, by Google's own client. Credentials are found where Google's tools
 * find them; STORAGE_EMULATOR_HOST is another endpoint, without credentials. The client sends a CRC-32C with what it
 * writes and checks that of what it reads. It is loaded when the first job needs it.
 */
import type { Bucket, File, Storage } from "@google-cloud/storage";
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ErrorCode, WeirError } from "../base/errors.ts";
import type { CheckpointStorage } from "./checkpoint-storage.ts";
import { withSilenceLimit } from "./silence-limit.ts";
import { createdOnce, orIfAbsent, wholeOrAbsent } from "./storage-contract.ts";
import { storageFailure } from "./storage-failure.ts";

/** A larger file goes in parts, each of which can be tried again. A multiple of 256 KiB. */
const PART_BYTES = 8 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;
/** Of a request until its answer begins. */
const ANSWER_TIMEOUT_MS = 30_000;
const SILENCE_LIMIT_MS = 60_000;
const DELETES_AT_ONCE = 16;
const PART_RETRIES = 3;
const LISTENERS = 20;

interface Clients {
  /** Tries nothing again: RetryingStorage does. */
  readonly whole: Storage;
  /** Sends a part again when it was lost, and not the whole file. */
  readonly inParts: Storage;
}

export class GcsStorage implements CheckpointStorage {
  #loaded: Promise<Clients> | undefined;

  #load(): Promise<Clients> {
    this.#loaded ??= import("@google-cloud/storage").then(({ IdempotencyStrategy, Storage: Client }) => {
      const idempotencyStrategy = IdempotencyStrategy.RetryAlways;
      const parts = { maxRetries: PART_RETRIES, totalTimeout: SILENCE_LIMIT_MS / 1000, idempotencyStrategy };
      return withEmulator((place) => ({
        whole: new Client({ ...place, timeout: ANSWER_TIMEOUT_MS, retryOptions: { autoRetry: false } }),
        inParts: new Client({ ...place, timeout: ANSWER_TIMEOUT_MS, retryOptions: parts }),
      }));
    });
    return this.#loaded;
  }

  /** Asks for what every user of the bucket may ask for; what it is called and where it is they may not. */
  async open(folder: string): Promise<void> {
    await this.#try("reach the bucket of", folder, async (bucket, name) => {
      await bucket.getFiles({ prefix: prefixOf(name), maxResults: 1, autoPaginate: false });
    });
  }

  async create(location: string, bytes: Uint8Array): Promise<void> {
    await createdOnce(this, location, bytes, () =>
      this.#tryFile("write", location, async (file) => {
        const preconditionOpts = { ifGenerationMatch: 0 };
        await file.save(Buffer.from(bytes), { resumable: false, validation: "crc32c", preconditionOpts });
      }),
    );
  }

  async read(location: string): Promise<Uint8Array> {
    return this.#tryFile("read", location, async (file) => {
      const [content] = await file.download({ validation: "crc32c" });
      return content;
    });
  }

  async upload(location: string, localPath: string): Promise<void> {
    await this.#try("write", location, async ({ name: bucket }, name, { whole, inParts }) => {
      const resumable = (await stat(localPath)).size > PART_BYTES;
      const file = (resumable ? inParts : whole).bucket(bucket).file(name);
      const options = { resumable, ...(resumable ? { chunkSize: PART_BYTES } : {}), validation: "crc32c" as const };
      await withSilenceLimit(SILENCE_LIMIT_MS, async ({ signal, meter }) => {
        const source = createReadStream(localPath, { highWaterMark: READ_BYTES });
        await pipeline(source, meter(), file.createWriteStream(options), { signal });
      });
    });
  }

  async download(location: string, localPath: string): Promise<void> {
    await wholeOrAbsent(localPath, async () => {
      await this.#tryFile("read", location, async (file) => {
        await withSilenceLimit(SILENCE_LIMIT_MS, async ({ signal, meter }) => {
          const source = file.createReadStream({ validation: "crc32c", decompress: false });
          // The client's layers alone come to Node's limit, and Node would warn of a leak.
          source.once("response", (response: Readable) => response.setMaxListeners(LISTENERS));
          await pipeline(source, meter(), createWriteStream(localPath, { mode: 0o600 }), { signal });
        });
      });
    });
  }

  async size(location: string): Promise<number | undefined> {
    return orIfAbsent(undefined, () =>
      this.#tryFile("read", location, async (file) => {
        const [{ size = 0 }] = await file.getMetadata();
        return Number(size);
      }),
    );
  }

  async list(folder: string): Promise<readonly string[]> {
    return this.#try("list", folder, async (bucket, name) => {
      const [files] = await bucket.getFiles({ prefix: prefixOf(name), fields: "items(name),nextPageToken" });
      return files.map((file) => `gs://${bucket.name}/${file.name}`).sort();
    });
  }

  async files(folder: string): Promise<readonly string[]> {
    return (await this.#entries(folder)).files;
  }

  async folders(folder: string): Promise<readonly string[]> {
    return (await this.#entries(folder)).folders;
  }

  async #entries(folder: string): Promise<{ readonly files: string[]; readonly folders: string[] }> {
    return this.#try("list", folder, async (bucket, name) => {
      const prefix = prefixOf(name);
      const files: string[] = [];
      const folders: string[] = [];
      let query: object | null = { prefix, delimiter: "/", autoPaginate: false };
      while (query !== null) {
        const [found, next, answer]: [File[], object | null, unknown?] = await bucket.getFiles(query);
        const { prefixes = [] } = answer as { readonly prefixes?: readonly string[] };
        for (const { name: file } of found) if (file !== prefix) files.push(`gs://${bucket.name}/${file}`);
        folders.push(...prefixes.map((each) => each.slice(prefix.length, -1)));
        query = next ?? null;
      }
      return { files: files.sort(), folders: folders.sort() };
    });
  }

  async delete(locations: readonly string[]): Promise<void> {
    for (let done = 0; done < locations.length; done += DELETES_AT_ONCE)
      await Promise.all(
        locations
          .slice(done, done + DELETES_AT_ONCE)
          .map((each) => this.#tryFile("delete", each, (file) => file.delete({ ignoreNotFound: true }))),
      );
  }

  async removeFolder(folder: string): Promise<void> {
    await this.delete(await this.list(folder));
  }

  #tryFile<T>(what: string, location: string, request: (file: File) => Promise<T>): Promise<T> {
    return this.#try(what, location, (bucket, name) => request(bucket.file(name)));
  }

  async #try<T>(
    what: string,
    location: string,
    request: (bucket: Bucket, name: string, clients: Clients) => Promise<T>,
  ): Promise<T> {
    try {
      const { bucket, name } = placeOf(location);
      const clients = await this.#load();
      return await request(clients.whole.bucket(bucket), name, clients);
    } catch (cause) {
      throw failed(what, location, cause);
    }
  }
}

/** The client's own reading of the variable lacks the API's path, and a protocol where Go's tools want none. */
function withEmulator<T>(make: (options: { readonly apiEndpoint?: string }) => T): T {
  const { STORAGE_EMULATOR_HOST: emulator } = process.env;
  if (emulator === undefined || emulator === "") return make({});
  delete process.env["STORAGE_EMULATOR_HOST"];
  try {
    return make({ apiEndpoint: /^https?:\/\//.test(emulator) ? emulator : `http://${emulator}` });
  } finally {
    process.env["STORAGE_EMULATOR_HOST"] = emulator;
  }
}

function placeOf(location: string): { readonly bucket: string; readonly name: string } {
  const match = /^gs:\/\/([^/]+)(?:\/(.*))?$/s.exec(location);
  if (match === null) throw new Error(`${location} is not gs://BUCKET/NAME`);
  return { bucket: match[1] ?? "", name: (match[2] ?? "").replace(/\/+$/, "") };
}

/** Of what is in a folder. */
function prefixOf(name: string): string {
  return name === "" ? "" : `${name}/`;
}

const HINTS: Partial<Record<ErrorCode, string>> = {
  FAILED_PRECONDITION:
    "Look at the credentials (GOOGLE_APPLICATION_CREDENTIALS, or the machine's service account) and at what they may do in that bucket.",
  UNAVAILABLE: "Look at the network between here and the store.",
};

function failed(what: string, location: string, cause: unknown): WeirError {
  const { code, message, errors } = cause as Error & { code?: number | string; errors?: readonly Error[] };
  // Several of the client's own attempts are listed below a heading: the last one says why.
  const reason = errors?.at(-1)?.message ?? message;
  return storageFailure({ what, location, code: codeOf(code, message), reason, hints: HINTS, cause });
}

function codeOf(code: number | string | undefined, message: string): ErrorCode {
  if (Number(code) === 404) return "NOT_FOUND";
  if (Number(code) === 412) return "ALREADY_EXISTS";
  if (code === "CONTENT_DOWNLOAD_MISMATCH") return "DATA_LOSS";
  if ([400, 401, 403].includes(Number(code))) return "FAILED_PRECONDITION";
  return /default credentials|invalid_grant/i.test(message) ? "FAILED_PRECONDITION" : "UNAVAILABLE";
}
