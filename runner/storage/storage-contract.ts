/** Parts of the contract of CheckpointStorage that every remote store keeps in the same way, whatever its client. */
import { rm } from "node:fs/promises";
import { WeirError } from "../base/errors.ts";
import type { CheckpointStorage } from "./checkpoint-storage.ts";

/** @returns `absent` where the store says NOT_FOUND. @throws what `request` throws else */
export async function orIfAbsent<T, U>(absent: U, request: () => Promise<T>): Promise<T | U> {
  try {
    return await request();
  } catch (thrown) {
    if (WeirError.from(thrown).code === "NOT_FOUND") return absent;
    throw thrown;
  }
}

/** Leaves no part of a local file when `write`, which is to write it whole, fails. @throws what `write` throws */
export async function wholeOrAbsent(localPath: string, write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (thrown) {
    await rm(localPath, { force: true }).catch(() => undefined);
    throw thrown;
  }
}

/** Another attempt of `create` finds what the first one wrote: that is no failure. @throws what `create` throws else */
export async function createdOnce(
  storage: Pick<CheckpointStorage, "read">,
  location: string,
  bytes: Uint8Array,
  create: () => Promise<void>,
): Promise<void> {
  try {
    await create();
  } catch (thrown) {
    const isOurs =
      WeirError.from(thrown).code === "ALREADY_EXISTS" && Buffer.from(await storage.read(location)).equals(bytes);
    if (!isOurs) throw thrown;
  }
}
