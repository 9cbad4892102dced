/**
 * Files of any storage as files of this machine, for those who read them: what lies in a directory is read where it
 * lies, what lies in a store as a copy that is gone afterwards.
 */
import { mkdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { WeirError } from "../base/errors.ts";
import { isRemote } from "./checkpoint-storage.ts";
import { openStorage } from "./open-storage.ts";

/**
 * @param folder for the copy; made if need be. Of two copies at once, no other one may have the same name
 * @param use gets the local path
 * @throws what the storage and `use` throw; errors of `use` that name the copy name the location instead
 */
export async function withLocalCopy<Result>(
  location: string,
  folder: string,
  use: (path: string) => Promise<Result>,
): Promise<Result> {
  if (!isRemote(location)) return use(location);
  await mkdir(folder, { recursive: true });
  const path = join(folder, basename(location));
  try {
    await openStorage(location).download(location, path);
    return await use(path);
  } catch (thrown) {
    throw thrown instanceof WeirError ? renamed(thrown, path, location) : thrown;
  } finally {
    await rm(path, { force: true });
  }
}

function renamed(error: WeirError, path: string, location: string): WeirError {
  if (!error.message.includes(path)) return error;
  const { code, domain, retry, ids } = error;
  // The hint is part of the message.
  return new WeirError({ code, domain, message: error.message.replaceAll(path, location), retry, ids, cause: error });
}
