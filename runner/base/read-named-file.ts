/** Reads a file that a user has named on the command line. */
import { readFile } from "node:fs/promises";
import { userError } from "./errors.ts";

/** @throws WeirError NOT_FOUND naming the file, and why it cannot be read */
export async function readNamedFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (thrown) {
    throw userError("NOT_FOUND", `${path} cannot be read: ${(thrown as Error).message}.`);
  }
}
