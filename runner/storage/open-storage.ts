/** Finds the storage of a location. A process has one of each kind, and with it one pool of connections. */
import { fileURLToPath } from "node:url";
import { userError } from "../base/errors.ts";
import { type CheckpointStorage, isRemote } from "./checkpoint-storage.ts";
import { LocalStorage } from "./local-storage.ts";
import { RetryingStorage } from "./retrying-storage.ts";
import { S3Storage } from "./s3-storage.ts";

const local = new LocalStorage();
const s3 = new RetryingStorage(new S3Storage());

/** @param location as `checkStorageRoot` returned it, or one below it */
export function openStorage(location: string): CheckpointStorage {
  return isRemote(location) ? s3 : local;
}

/**
 * @returns a location: an absolute path, or a URI without a slash at its end
 * @param option for messages
 * @throws WeirError naming the option when checkpoints cannot go there
 */
export function checkStorageRoot(path: string, option = "state_backend_storage_path"): string {
  const refuse = (why: string) =>
    userError(
      "UNIMPLEMENTED",
      `Pipeline option --${option} is ${JSON.stringify(path)}, ${why}.`,
      "Give an absolute path of a directory that all workers see, plain or as a file:// URL, or s3://BUCKET/FOLDER.",
    );
  if (path.startsWith("/")) return path;
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(path)?.[1]?.toLowerCase();
  if (scheme === undefined) throw refuse("which is not an absolute path");
  if (scheme === "s3") {
    const match = /^s3:\/\/([^/?#]+(?:\/[^?#]*)?)$/i.exec(path);
    if (match === null) throw refuse("which names no bucket");
    return `s3://${match[1]?.replace(/\/+$/, "")}`;
  }
  if (scheme !== "file") throw refuse(`and Weir cannot store checkpoints by ${scheme}: yet`);
  try {
    return fileURLToPath(path);
  } catch {
    throw refuse("which is not a file URL of this machine");
  }
}
