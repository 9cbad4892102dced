/** Finds the storage of a location. A process has one of each kind, and with it one pool of connections. */
import { fileURLToPath } from "node:url";
import { userError } from "../base/errors.ts";
import { type CheckpointStorage, isRemote } from "./checkpoint-storage.ts";
import { GcsStorage } from "./gcs-storage.ts";
import { defaultAuthority, readHadoopConfiguration } from "./hadoop-configuration.ts";
import { HdfsStorage } from "./hdfs-storage.ts";
import { LocalStorage } from "./local-storage.ts";
import { RetryingStorage } from "./retrying-storage.ts";
import { S3Storage } from "./s3-storage.ts";

const local = new LocalStorage();
const remote: ReadonlyMap<string, CheckpointStorage> = new Map([
  ["s3", new RetryingStorage(new S3Storage())],
  ["gs", new RetryingStorage(new GcsStorage())],
  ["hdfs", new RetryingStorage(new HdfsStorage())],
]);

/** Under which Flink's users know S3: its file systems of Hadoop and Presto. */
const S3_SCHEMES: ReadonlySet<string | undefined> = new Set(["s3", "s3a", "s3n", "s3p"]);

/** @param location as `checkStorageRoot` returned it, or one below it */
export function openStorage(location: string): CheckpointStorage {
  if (!isRemote(location)) return local;
  const found = remote.get(schemeOf(location) ?? "");
  if (found === undefined) throw userError("UNIMPLEMENTED", `Weir has no storage for ${location}.`);
  return found;
}

function schemeOf(path: string): string | undefined {
  return /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(path)?.[1]?.toLowerCase();
}

/**
 * @returns a location: an absolute path, or a URI without a slash at its end
 * @param subject of messages: what has this path
 * @throws WeirError naming the option when checkpoints cannot go there
 */
export function checkStorageRoot(path: string, subject = "Pipeline option --state_backend_storage_path"): string {
  const refuse = (why: string) =>
    userError(
      "UNIMPLEMENTED",
      `${subject} is ${JSON.stringify(path)}, ${why}.`,
      "Give an absolute path of a directory that all workers see, plain or as a file:// URL, or s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, hdfs://NAMENODE/FOLDER.",
    );
  if (path.startsWith("/")) return path;
  const scheme = schemeOf(path);
  if (scheme === undefined) throw refuse("which is not an absolute path");
  if (S3_SCHEMES.has(scheme) || scheme === "gs") {
    const place = /^[^:]*:\/\/([^/?#]+(?:\/[^?#]*)?)$/.exec(path)?.[1];
    if (place === undefined) throw refuse("which names no bucket");
    return `${scheme === "gs" ? "gs" : "s3"}://${place.replace(/\/+$/, "")}`;
  }
  if (scheme === "hdfs") return hdfsRoot(path, refuse);
  if (scheme !== "file") throw refuse(`and Weir cannot store checkpoints by ${scheme}:`);
  try {
    return fileURLToPath(path);
  } catch {
    throw refuse("which is not a file URL of this machine");
  }
}

function hdfsRoot(path: string, refuse: (why: string) => Error): string {
  const match = /^hdfs:\/\/([^/?#]*)(\/[^?#]*)?$/i.exec(path) ?? /^hdfs:()(\/[^/?#][^?#]*)$/i.exec(path);
  if (match === null) throw refuse("which is not hdfs://NAMENODE/FOLDER");
  const authority = match[1] || defaultAuthority(readHadoopConfiguration(process.env["HADOOP_CONF_DIR"]));
  if (authority === undefined)
    throw refuse("which names no NameNode, and there is no HADOOP_CONF_DIR whose fs.defaultFS does");
  return `hdfs://${authority}${(match[2] ?? "").replace(/\/+$/, "")}`;
}
