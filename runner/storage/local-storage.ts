/** Checkpoints in a local directory, one that all workers see. Files are written beside their name, synced, linked. */
import type { Dirent } from "node:fs";
import { copyFile, link, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ErrorCode } from "../base/errors.ts";
import { randomId } from "../base/clock.ts";
import type { CheckpointStorage } from "./checkpoint-storage.ts";
import { storageFailure } from "./storage-failure.ts";

export class LocalStorage implements CheckpointStorage {
  async open(folder: string): Promise<void> {
    await mkdir(folder, { recursive: true }).catch(failing("make the checkpoint directory", folder));
  }

  async create(location: string, bytes: Uint8Array): Promise<void> {
    await this.#place(location, async (temporary) => {
      const file = await open(temporary, "w");
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await link(temporary, location).catch(async (thrown: unknown) => {
        if (codeOf(thrown) !== "EEXIST" || !(await readFile(location)).equals(bytes)) throw thrown;
      });
      await rm(temporary, { force: true });
    });
  }

  async read(location: string): Promise<Uint8Array> {
    return readFile(location).catch(failing("read", location));
  }

  async upload(location: string, localPath: string): Promise<void> {
    await mkdir(dirname(location), { recursive: true }).catch(failing("make the folder of", location));
    await this.#place(location, async (temporary) => {
      await copyFile(localPath, temporary);
      const file = await open(temporary, "r");
      try {
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, location);
    });
  }

  async download(location: string, localPath: string): Promise<void> {
    try {
      await copyFile(location, localPath);
    } catch (cause) {
      await rm(localPath, { force: true }).catch(() => undefined);
      failing("read", location)(cause);
    }
  }

  async size(location: string): Promise<number | undefined> {
    try {
      return (await stat(location)).size;
    } catch (cause) {
      if (codeOf(cause) === "ENOENT" || codeOf(cause) === "ENOTDIR") return undefined;
      return failing("read", location)(cause);
    }
  }

  async list(folder: string): Promise<readonly string[]> {
    try {
      const entries = await readdir(folder, { recursive: true, withFileTypes: true });
      return entries.flatMap((entry) => (entry.isFile() ? [join(entry.parentPath, entry.name)] : [])).sort();
    } catch (cause) {
      return codeOf(cause) === "ENOENT" ? [] : failing("list", folder)(cause);
    }
  }

  async files(folder: string): Promise<readonly string[]> {
    const entries = await entriesOf(folder);
    return entries.flatMap((entry) => (entry.isFile() ? [join(folder, entry.name)] : [])).sort();
  }

  async folders(folder: string): Promise<readonly string[]> {
    const entries = await entriesOf(folder);
    return entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])).sort();
  }

  async delete(locations: readonly string[]): Promise<void> {
    for (const location of locations) await rm(location, { force: true }).catch(failing("delete", location));
  }

  async removeFolder(folder: string): Promise<void> {
    await rm(folder, { recursive: true, force: true }).catch(failing("delete", folder));
  }

  async #place(location: string, write: (temporary: string) => Promise<void>): Promise<void> {
    const temporary = `${location}.${randomId()}.part`;
    try {
      await write(temporary);
      const directory = await open(dirname(location), "r");
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    } catch (cause) {
      await rm(temporary, { force: true }).catch(() => undefined);
      failing("write", location)(cause);
    }
  }
}

async function entriesOf(folder: string): Promise<readonly Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (cause) {
    return codeOf(cause) === "ENOENT" ? [] : failing("list", folder)(cause);
  }
}

function codeOf(thrown: unknown): string | undefined {
  return (thrown as NodeJS.ErrnoException).code;
}

const CODES: ReadonlyMap<string | undefined, ErrorCode> = new Map([
  ["ENOENT", "NOT_FOUND"],
  ["EEXIST", "ALREADY_EXISTS"],
  ["EACCES", "FAILED_PRECONDITION"],
  ["EPERM", "FAILED_PRECONDITION"],
  ["EROFS", "FAILED_PRECONDITION"],
  ["ENOTDIR", "FAILED_PRECONDITION"],
  ["ENOSPC", "RESOURCE_EXHAUSTED"],
  ["EDQUOT", "RESOURCE_EXHAUSTED"],
  ["EFBIG", "RESOURCE_EXHAUSTED"],
]);

const HINTS: Partial<Record<ErrorCode, string>> = {
  FAILED_PRECONDITION: "Look at who may write there.",
  RESOURCE_EXHAUSTED: "Make room on that disk, or set --state_backend_storage_path to a larger one.",
};

function failing(what: string, location: string): (cause: unknown) => never {
  return (cause) => {
    throw storageFailure({
      what,
      location,
      code: CODES.get(codeOf(cause)) ?? "UNAVAILABLE",
      reason: cause instanceof Error ? cause.message : String(cause),
      hints: HINTS,
      cause,
    });
  };
}
