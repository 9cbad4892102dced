/**
 * Checkpoints in HDFS, by WebHDFS. A file is written beside its name and renamed, which the NameNode does in one step.
 * HDFS keeps and checks checksums of its blocks by itself.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { Readable, type Transform } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { randomId } from "../base/clock.ts";
import { type ErrorCode, WeirError } from "../base/errors.ts";
import type { CheckpointStorage } from "./checkpoint-storage.ts";
import { nameNodeUrls, readHadoopConfiguration } from "./hadoop-configuration.ts";
import { withSilenceLimit } from "./silence-limit.ts";
import { createdOnce, orIfAbsent, wholeOrAbsent } from "./storage-contract.ts";
import { storageFailure } from "./storage-failure.ts";
import { WebHdfsClient, WebHdfsFailure, type WebHdfsRequest } from "./webhdfs-client.ts";

const SILENCE_LIMIT_MS = 60_000;
const READ_BYTES = 1024 * 1024;
const DELETES_AT_ONCE = 8;

interface FileStatus {
  readonly pathSuffix: string;
  readonly type: "FILE" | "DIRECTORY" | "SYMLINK";
  readonly length: number;
}

/** A location of HDFS and the client of its cluster. */
interface Place {
  readonly client: WebHdfsClient;
  readonly path: string;
}

export class HdfsStorage implements CheckpointStorage {
  /** By authority. */
  readonly #clients = new Map<string, WebHdfsClient>();

  async open(folder: string): Promise<void> {
    await this.#try("make the checkpoint directory", folder, ({ client, path }) =>
      client.ask({ method: "PUT", path, operation: "MKDIRS" }),
    );
  }

  async create(location: string, bytes: Uint8Array): Promise<void> {
    await createdOnce(this, location, bytes, () => this.#place("NONE", location, () => Readable.from([bytes])));
  }

  async read(location: string): Promise<Uint8Array> {
    return this.#try("read", location, async ({ client, path }) =>
      withSilenceLimit(SILENCE_LIMIT_MS, async ({ signal }) => {
        return buffer(await client.transfer({ method: "GET", path, operation: "OPEN" }, signal));
      }),
    );
  }

  async upload(location: string, localPath: string): Promise<void> {
    await this.#place("OVERWRITE", location, (meter) => {
      const source = createReadStream(localPath, { highWaterMark: READ_BYTES });
      source.once("error", (failure) => meter.destroy(failure));
      return source.pipe(meter);
    });
  }

  async download(location: string, localPath: string): Promise<void> {
    await wholeOrAbsent(localPath, async () => {
      await this.#try("read", location, ({ client, path }) =>
        withSilenceLimit(SILENCE_LIMIT_MS, async ({ signal, meter }) => {
          const source = await client.transfer({ method: "GET", path, operation: "OPEN" }, signal);
          await pipeline(source, meter(), createWriteStream(localPath, { mode: 0o600 }), { signal });
        }),
      );
    });
  }

  async size(location: string): Promise<number | undefined> {
    return orIfAbsent(undefined, () =>
      this.#try("read", location, async ({ client, path }) => {
        const answer = await client.ask({ method: "GET", path, operation: "GETFILESTATUS" });
        return (answer as { readonly FileStatus: FileStatus }).FileStatus.length;
      }),
    );
  }

  async list(folder: string): Promise<readonly string[]> {
    const entries = await this.#entries(folder);
    const locations = entries.flatMap(({ type, pathSuffix }) => (type === "FILE" ? [`${folder}/${pathSuffix}`] : []));
    for (const { type, pathSuffix } of entries)
      if (type === "DIRECTORY") locations.push(...(await this.list(`${folder}/${pathSuffix}`)));
    return locations.sort();
  }

  async files(folder: string): Promise<readonly string[]> {
    const entries = await this.#entries(folder);
    return entries.flatMap(({ type, pathSuffix }) => (type === "FILE" ? [`${folder}/${pathSuffix}`] : [])).sort();
  }

  async folders(folder: string): Promise<readonly string[]> {
    const entries = await this.#entries(folder);
    return entries.flatMap(({ type, pathSuffix }) => (type === "DIRECTORY" ? [pathSuffix] : [])).sort();
  }

  async delete(locations: readonly string[]): Promise<void> {
    for (let done = 0; done < locations.length; done += DELETES_AT_ONCE)
      await Promise.all(locations.slice(done, done + DELETES_AT_ONCE).map((each) => this.#delete(each, "false")));
  }

  async removeFolder(folder: string): Promise<void> {
    await this.#delete(folder, "true");
  }

  async #delete(location: string, recursive: "true" | "false"): Promise<void> {
    await this.#try("delete", location, ({ client, path }) =>
      client.ask({ method: "DELETE", path, operation: "DELETE", parameters: { recursive } }),
    );
  }

  async #entries(folder: string): Promise<readonly FileStatus[]> {
    return orIfAbsent([], () =>
      this.#try("list", folder, async ({ client, path }) => {
        const answer = await client.ask({ method: "GET", path, operation: "LISTSTATUS" });
        return (answer as { readonly FileStatuses: { readonly FileStatus: FileStatus[] } }).FileStatuses.FileStatus;
      }),
    );
  }

  /** @param renameoptions what becomes of a file of that name that is there: NONE refuses */
  async #place(
    renameoptions: "NONE" | "OVERWRITE",
    location: string,
    bodyOf: (meter: Transform) => Readable,
  ): Promise<void> {
    await this.#try("write", location, async ({ client, path }) => {
      const temporary = `${path}.${randomId()}.part`;
      const write: WebHdfsRequest = { method: "PUT", path: temporary, operation: "CREATE" };
      try {
        await withSilenceLimit(SILENCE_LIMIT_MS, async ({ signal, meter }) => {
          await buffer(await client.transfer(write, signal, bodyOf(meter())));
        });
        const parameters = { destination: path, renameoptions };
        await client.ask({ method: "PUT", path: temporary, operation: "RENAME", parameters });
      } catch (thrown) {
        const remove: WebHdfsRequest = { method: "DELETE", path: temporary, operation: "DELETE" };
        await client.ask(remove).catch(() => undefined);
        throw thrown;
      }
    });
  }

  #placeOf(location: string): Place {
    const match = /^hdfs:\/\/([^/]+)(\/.*)?$/s.exec(location);
    if (match === null) throw new Error(`${location} is not hdfs://NAMENODE/PATH`);
    const authority = match[1] ?? "";
    let client = this.#clients.get(authority);
    if (client === undefined) {
      const configuration = readHadoopConfiguration(process.env["HADOOP_CONF_DIR"]);
      client = new WebHdfsClient(nameNodeUrls(authority, configuration));
      this.#clients.set(authority, client);
    }
    return { client, path: (match[2] ?? "").replace(/\/+$/, "") };
  }

  async #try<T>(what: string, location: string, request: (place: Place) => Promise<T>): Promise<T> {
    try {
      return await request(this.#placeOf(location));
    } catch (cause) {
      if (cause instanceof WeirError) throw cause;
      const code: ErrorCode = cause instanceof WebHdfsFailure ? cause.code : "UNAVAILABLE";
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw storageFailure({ what, location, code, reason, hints: HINTS, cause });
    }
  }
}

const HINTS: Partial<Record<ErrorCode, string>> = {
  FAILED_PRECONDITION: "HADOOP_USER_NAME says as whom Weir comes.",
  UNAVAILABLE:
    "Look at the NameNode's HTTP address (HADOOP_CONF_DIR, or the port in the URI), and whether this machine reaches the DataNodes.",
  RESOURCE_EXHAUSTED: "The directory's quota is used up.",
};
