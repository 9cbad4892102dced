/**
 * Where checkpoints are kept: files by location, which is an absolute path or the URI of a store.
 *
 * Invariants: a file appears under its location whole and durable, or not at all; `create` never replaces one, so that
 * of two writers of a manifest one loses. Errors are WeirErrors that name the location: NOT_FOUND, ALREADY_EXISTS,
 * FAILED_PRECONDITION where the store refuses, and UNAVAILABLE, after retries, where another attempt may succeed.
 */
export interface CheckpointStorage {
  /** Makes the folder, or asks whether the store can be reached. */
  open(folder: string): Promise<void>;
  /** A small file that is not there yet. The same bytes once more are no error. */
  create(location: string, bytes: Uint8Array): Promise<void>;
  read(location: string): Promise<Uint8Array>;
  /** Copies a local file of any length to the store. */
  upload(location: string, localPath: string): Promise<void>;
  /** Copies a file of the store to a local one; nothing is left of it when that fails. */
  download(location: string, localPath: string): Promise<void>;
  /** Bytes; undefined where there is no such file. */
  size(location: string): Promise<number | undefined>;
  /** Locations of all files in the folder and in the folders below it, in order. */
  list(folder: string): Promise<readonly string[]>;
  /** Locations of the files directly in this folder, in order. */
  files(folder: string): Promise<readonly string[]>;
  /** Names of the folders directly in this one, in order; such as the jobs that have checkpoints. Not what is in them. */
  folders(folder: string): Promise<readonly string[]>;
  /** What is not there is deleted already. */
  delete(locations: readonly string[]): Promise<void>;
  /** With everything in it. */
  removeFolder(folder: string): Promise<void>;
}

/** Whether a location is in a store, and not a path of this machine. */
export function isRemote(location: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(location);
}

/** A location in a folder. */
export function locationIn(folder: string, ...names: readonly string[]): string {
  return [folder.replace(/(?<=.)\/+$/, ""), ...names].join("/");
}
