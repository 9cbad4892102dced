/**
 * The savepoint that a job's user has asked for: one at a time, each a checkpoint of its own whose files the tasks copy
 * to the user's folder as well. The checkpoint itself is like any other: it is kept, restored and retired without the
 * savepoint, which the job never reads again and never deletes.
 *
 * Invariants: a folder with something in it is never written to; what a savepoint that was given up has left is deleted;
 * its manifest is written last, when all of its files are there.
 */
import { basename } from "node:path";
import type { TriggerCheckpoint } from "../../proto/gen/worker.ts";
import { present } from "../base/assert.ts";
import { WeirError } from "../base/errors.ts";
import { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import { filesOf, type SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import { locationIn } from "../storage/checkpoint-storage.ts";
import { openStorage } from "../storage/open-storage.ts";

export interface SavepointRequest {
  /** Of a folder that is empty or not there: absolute, or a URI. */
  readonly path: string;
  /** The job ends with it. */
  readonly stop: boolean;
}

export interface SavepointResult {
  readonly path: string;
  readonly checkpointId: number;
  /** Of all its files. */
  readonly byteLength: number;
}

/** One that is complete, and whose user does not know it yet. */
export interface CompleteSavepoint extends SavepointResult {
  readonly stop: boolean;
  /** Tells whoever asked for it. */
  tell(): void;
}

interface Savepoint extends SavepointRequest {
  readonly directory: CheckpointDirectory;
  readonly settled: PromiseWithResolvers<SavepointResult>;
  /** Once its barriers are on their way. */
  checkpointId: number | undefined;
  isPrepared: boolean;
  /** Of one that was given up: settled when its folder is gone. */
  removed: Promise<void> | undefined;
}

export class Savepoints {
  #current: Savepoint | undefined;

  /** One that can begin. */
  get waiting(): SavepointRequest | undefined {
    const current = this.#current;
    return current?.isPrepared === true && current.checkpointId === undefined ? current : undefined;
  }

  /**
   * Makes the folder ready, and has the savepoint begin.
   * @param begin called once, when it waits for nothing but its turn
   * @returns when it is complete
   * @throws WeirError FAILED_PRECONDITION while there is another one, ALREADY_EXISTS naming the folder, or why it was given up
   */
  async take(request: SavepointRequest, begin: () => void): Promise<SavepointResult> {
    if (this.#current !== undefined)
      throw refused(
        `A savepoint of the job is being taken already, in ${this.#current.path}.`,
        "Ask again when it is done.",
      );
    const settled = Promise.withResolvers<SavepointResult>();
    const current: Savepoint = {
      ...request,
      directory: new CheckpointDirectory(request.path),
      settled,
      checkpointId: undefined,
      isPrepared: false,
      removed: undefined,
    };
    this.#current = current;
    // Whoever is no longer there to be told is no reason to end the process.
    settled.promise.catch(() => undefined);
    try {
      await prepare(current.directory);
    } catch (thrown) {
      if (this.#current === current) this.#current = undefined;
      throw thrown;
    }
    if (this.#current === current) {
      current.isPrepared = true;
      begin();
    } else await current.directory.remove().catch(() => undefined);
    return settled.promise;
  }

  /** The one that was waiting has become this checkpoint. @returns what barriers say of it */
  began(checkpointId: number): Pick<TriggerCheckpoint, "savepointPath" | "savepointStops"> {
    const current = present(this.#current, "a savepoint");
    current.checkpointId = checkpointId;
    return { savepointPath: current.directory.statePath, savepointStops: current.stop };
  }

  /** Whether the checkpoint is the savepoint's. */
  is(checkpointId: number): boolean {
    return this.#current?.checkpointId === checkpointId;
  }

  /**
   * The checkpoint is complete in the job's own folder: so is the savepoint.
   * @returns whether the job ends with it, and how to tell the user, after the workers know; undefined when the checkpoint
   * is no savepoint, or the savepoint has failed
   */
  async complete(manifest: SnapshotManifest): Promise<CompleteSavepoint | undefined> {
    const current = this.#current;
    if (current?.checkpointId !== manifest.checkpointId) return undefined;
    const { directory, path, stop } = current;
    const copied = (file: string) => locationIn(directory.statePath, basename(file));
    const tasks = manifest.tasks.map((task) => ({
      ...task,
      files: task.files.map((file) => ({ ...file, path: copied(file.path) })),
    }));
    try {
      await directory.verify({ ...manifest, tasks });
      await directory.write({ ...manifest, tasks });
    } catch (thrown) {
      if (this.#current === current) this.failed(WeirError.from(thrown).message);
    }
    if (this.#current !== current) {
      // Given up, maybe when the manifest was being written: what came after the first removal goes too.
      await current.removed;
      await directory.remove().catch(() => undefined);
      return undefined;
    }
    this.#current = undefined;
    const byteLength = filesOf(manifest).reduce((sum, file) => sum + file.byteLength, 0);
    const result = { path, checkpointId: manifest.checkpointId, byteLength };
    return { ...result, stop, tell: () => current.settled.resolve(result) };
  }

  /** It is given up, if there is one, whether it has begun or not. @param reason a sentence */
  failed(reason: string): void {
    const current = this.#current;
    if (current === undefined) return;
    this.#current = undefined;
    current.settled.reject(
      new WeirError({
        code: "ABORTED",
        domain: "external",
        message: `The savepoint in ${current.path} is given up: ${reason}`,
        hint: "The job goes on without it; ask again.",
      }),
    );
    if (current.isPrepared) current.removed = current.directory.remove().catch(() => undefined);
  }
}

async function prepare(directory: CheckpointDirectory): Promise<void> {
  const { path } = directory;
  const [first] = await openStorage(path).list(path);
  if (first !== undefined)
    throw new WeirError({
      code: "ALREADY_EXISTS",
      domain: "user",
      message: `A savepoint cannot be written to ${path}: there is ${first} already.`,
      hint: "Name a folder that is empty or not there.",
    });
  await directory.open();
}

/** For the job's messages. */
export function savepointText({ path, checkpointId, stop }: SavepointResult & { readonly stop: boolean }): string {
  const text = `Checkpoint ${checkpointId} is a savepoint, too, in ${path}.`;
  return stop ? `${text} The job stops with it; a new one goes on from there with --savepoint_path=${path}.` : text;
}

export function refused(message: string, hint: string): WeirError {
  return new WeirError({ code: "FAILED_PRECONDITION", domain: "user", message, hint });
}
