/**
 * Checkpoints in an S3 bucket, or in any store with S3's API. Credentials, region and endpoint are found where AWS's
 * own tools find them (AWS_ENDPOINT_URL for another store). AWS's client sends checksums and checks those that the store
 * sends, and tries a request twice, so that one lost part is not the whole file; RetryingStorage does the rest. It is
 * loaded when the first job needs it.
 */
import type * as S3 from "@aws-sdk/client-s3";
import { createReadStream, createWriteStream } from "node:fs";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ErrorCode, WeirError } from "../base/errors.ts";
import type { CheckpointStorage } from "./checkpoint-storage.ts";
import { createdOnce, orIfAbsent, wholeOrAbsent } from "./storage-contract.ts";
import { storageFailure } from "./storage-failure.ts";

const PART_BYTES = 8 * 1024 * 1024;
const PARTS_AT_ONCE = 2;
const ATTEMPTS_OF_A_REQUEST = 2;
const CONNECT_TIMEOUT_MS = 5_000;
const SILENCE_TIMEOUT_MS = 30_000;
const KEYS_PER_DELETE = 1_000;

type Sdk = typeof S3;
type Client = S3.S3Client;

export class S3Storage implements CheckpointStorage {
  #loaded: Promise<{ readonly sdk: Sdk; readonly client: Client }> | undefined;

  #load() {
    this.#loaded ??= import("@aws-sdk/client-s3").then((sdk) => {
      const client = new sdk.S3Client({
        ...(hasRegion() ? {} : { region: "us-east-1" }),
        forcePathStyle: true,
        maxAttempts: ATTEMPTS_OF_A_REQUEST,
        requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, socketTimeout: SILENCE_TIMEOUT_MS },
      });
      return { sdk, client };
    });
    return this.#loaded;
  }

  /** By a listing, whose refusal says why; that of a HEAD has no words. */
  async open(folder: string): Promise<void> {
    const { Bucket, Key } = placeOf(folder);
    await this.#try("reach the bucket of", folder, async ({ sdk, client }) => {
      await client.send(new sdk.ListObjectsV2Command({ Bucket, Prefix: `${Key}/`, MaxKeys: 1 }));
    });
  }

  async create(location: string, bytes: Uint8Array): Promise<void> {
    await createdOnce(this, location, bytes, () =>
      this.#try("write", location, async ({ sdk, client }) => {
        await client.send(new sdk.PutObjectCommand({ ...placeOf(location), Body: bytes, IfNoneMatch: "*" }));
      }),
    );
  }

  async read(location: string): Promise<Uint8Array> {
    return this.#try("read", location, async ({ sdk, client }) => {
      const { Body } = await client.send(new sdk.GetObjectCommand(placeOf(location)));
      return (await Body?.transformToByteArray()) ?? new Uint8Array();
    });
  }

  async upload(location: string, localPath: string): Promise<void> {
    await this.#try("write", location, async ({ client }) => {
      const { Upload } = await import("@aws-sdk/lib-storage");
      const Body = createReadStream(localPath, { highWaterMark: 1024 * 1024 });
      try {
        const params = { ...placeOf(location), Body };
        await new Upload({ client, params, partSize: PART_BYTES, queueSize: PARTS_AT_ONCE }).done();
      } finally {
        Body.destroy();
      }
    });
  }

  async download(location: string, localPath: string): Promise<void> {
    await wholeOrAbsent(localPath, async () => {
      await this.#try("read", location, async ({ sdk, client }) => {
        const { Body } = await client.send(new sdk.GetObjectCommand(placeOf(location)));
        await pipeline(Body as Readable, createWriteStream(localPath, { mode: 0o600 }));
      });
    });
  }

  async size(location: string): Promise<number | undefined> {
    return orIfAbsent(undefined, () =>
      this.#try("read", location, async ({ sdk, client }) => {
        const { ContentLength } = await client.send(new sdk.HeadObjectCommand(placeOf(location)));
        return ContentLength ?? 0;
      }),
    );
  }

  async list(folder: string): Promise<readonly string[]> {
    const { Bucket, Key } = placeOf(folder);
    return this.#try("list", folder, async ({ sdk, client }) => {
      const locations: string[] = [];
      const pages = sdk.paginateListObjectsV2({ client }, { Bucket, Prefix: Key === "" ? "" : `${Key}/` });
      for await (const { Contents = [] } of pages)
        for (const { Key: found } of Contents) if (found !== undefined) locations.push(`s3://${Bucket}/${found}`);
      return locations.sort();
    });
  }

  async files(folder: string): Promise<readonly string[]> {
    return (await this.#entries(folder)).files;
  }

  async folders(folder: string): Promise<readonly string[]> {
    return (await this.#entries(folder)).folders;
  }

  async #entries(folder: string): Promise<{ readonly files: string[]; readonly folders: string[] }> {
    const { Bucket, Key } = placeOf(folder);
    const Prefix = Key === "" ? "" : `${Key}/`;
    return this.#try("list", folder, async ({ sdk, client }) => {
      const files: string[] = [];
      const folders: string[] = [];
      const pages = sdk.paginateListObjectsV2({ client }, { Bucket, Prefix, Delimiter: "/" });
      for await (const { Contents = [], CommonPrefixes = [] } of pages) {
        for (const { Key: found = "" } of Contents) if (found !== Prefix) files.push(`s3://${Bucket}/${found}`);
        for (const { Prefix: found = "" } of CommonPrefixes) folders.push(found.slice(Prefix.length, -1));
      }
      return { files: files.sort(), folders: folders.sort() };
    });
  }

  async delete(locations: readonly string[]): Promise<void> {
    const first = locations[0];
    if (first === undefined) return;
    const { Bucket } = placeOf(first);
    await this.#try("delete", first, async ({ sdk, client }) => {
      for (let done = 0; done < locations.length; done += KEYS_PER_DELETE) {
        const Objects = locations.slice(done, done + KEYS_PER_DELETE).map((each) => ({ Key: placeOf(each).Key }));
        const { Errors } = await client.send(
          new sdk.DeleteObjectsCommand({ Bucket, Delete: { Objects, Quiet: true } }),
        );
        const failed = Errors?.find(({ Code }) => Code !== "NoSuchKey");
        if (failed !== undefined) throw new Error(`${failed.Key}: ${failed.Message ?? failed.Code}`);
      }
    });
  }

  async removeFolder(folder: string): Promise<void> {
    await this.delete(await this.list(folder));
    await this.#abortUploads(folder);
  }

  /** Parts that a killed worker sent are in no listing of files, and are paid for. Not every store can tell of them. */
  async #abortUploads(folder: string): Promise<void> {
    const { Bucket, Key } = placeOf(folder);
    const { sdk, client } = await this.#load();
    try {
      const { Uploads = [] } = await client.send(
        new sdk.ListMultipartUploadsCommand({ Bucket, Prefix: Key === "" ? "" : `${Key}/` }),
      );
      for (const { Key: key, UploadId } of Uploads)
        await client.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key: key, UploadId }));
    } catch (cause) {
      const failure = failed("look for lost uploads in", folder, cause);
      if (failure.code === "UNAVAILABLE" && (cause as HttpFailure).$metadata?.httpStatusCode !== NOT_IMPLEMENTED)
        throw failure;
    }
  }

  async #try<T>(
    what: string,
    location: string,
    request: (loaded: { readonly sdk: Sdk; readonly client: Client }) => Promise<T>,
  ): Promise<T> {
    try {
      return await request(await this.#load());
    } catch (cause) {
      throw failed(what, location, cause);
    }
  }
}

function hasRegion(): boolean {
  const { AWS_REGION, AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3 } = process.env;
  // Stores other than Amazon's have no regions, but the client wants one.
  return AWS_REGION !== undefined || (AWS_ENDPOINT_URL ?? AWS_ENDPOINT_URL_S3) === undefined;
}

function placeOf(location: string): { readonly Bucket: string; readonly Key: string } {
  const match = /^s3:\/\/([^/]+)(?:\/(.*))?$/s.exec(location);
  if (match === null) throw new Error(`${location} is not s3://BUCKET/KEY`);
  return { Bucket: match[1] ?? "", Key: (match[2] ?? "").replace(/\/+$/, "") };
}

const HINTS: Partial<Record<ErrorCode, string>> = {
  FAILED_PRECONDITION: "Look at the credentials, the region, and what they may do in that bucket.",
  UNAVAILABLE: "Look at the endpoint (AWS_ENDPOINT_URL) and at the network between here and the store.",
};

type HttpFailure = Error & { readonly $metadata?: { readonly httpStatusCode?: number } };

const NOT_IMPLEMENTED = 501;

function failed(what: string, location: string, cause: unknown): WeirError {
  const { name, $metadata, message } = cause as HttpFailure;
  const code = codeOf(name, $metadata?.httpStatusCode);
  const reason = [name, message].filter((part) => part !== "").join(": ");
  return storageFailure({ what, location, code, reason, hints: HINTS, cause });
}

const ABSENT: ReadonlySet<string> = new Set(["NoSuchKey", "NoSuchBucket", "NotFound"]);
/** Statuses that another attempt may not meet: too slow, a concurrent write, too many requests. */
const PASSING: ReadonlySet<number> = new Set([408, 409, 429]);
const PASSING_NAMES: ReadonlySet<string> = new Set(["RequestTimeout", "NoSuchUpload"]);

function codeOf(name: string, status: number | undefined): ErrorCode {
  if (status === 404 && ABSENT.has(name)) return "NOT_FOUND";
  if (status === 412) return "ALREADY_EXISTS";
  if (name === "CredentialsProviderError" || name === "TokenProviderError") return "FAILED_PRECONDITION";
  if (status === undefined || status < 300 || status >= 500 || PASSING.has(status) || PASSING_NAMES.has(name))
    return "UNAVAILABLE";
  return "FAILED_PRECONDITION";
}
