/**
 * The copy of a job in the folder of its checkpoints, from which a job server without the first one's disk can go on
 * with it (recover-jobs.ts). See stored-submission.ts for the files.
 *
 * Invariants: what was submitted is there before the first manifest, since a checkpoint without it is of no use to
 * anyone; history follows now and then, and is never waited for.
 */
import { stat } from "node:fs/promises";
import type { Clock } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import type { JobId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import {
  artifactLocation,
  encodeHistory,
  encodeSubmission,
  endedLocation,
  historyLocation,
  type StoredHistory,
  type StoredSubmission,
  submissionLocation,
} from "../checkpoint/stored-submission.ts";
import { openStorage } from "../storage/open-storage.ts";
import type { CopyDirectory } from "./job-executor.ts";

export interface JobCopyInit {
  readonly jobId: JobId;
  readonly submission: () => StoredSubmission;
  /** Where a staged file is on this machine. */
  readonly artifactPath: (sha256: string) => string | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** Checkpoints may be many a second. */
const HISTORY_INTERVAL_MS = 10_000;

export class JobCopy {
  readonly #init: JobCopyInit;
  #directory: CopyDirectory | undefined;
  #storing: Promise<void> | undefined;
  #lastSequence = 0;
  #historyMs = -Infinity;
  /** History that is being written. */
  #writing: Promise<void> = Promise.resolve();
  #isWriting = false;

  constructor(init: JobCopyInit) {
    this.#init = init;
  }

  /**
   * Puts what was submitted into the folder, unless it is there. What has failed is tried again by the next call.
   * @throws WeirError naming the file that cannot be written
   */
  store(directory: CopyDirectory): Promise<void> {
    this.#directory = directory;
    this.#storing ??= this.#store(directory.path).catch((thrown: unknown) => {
      this.#storing = undefined;
      throw thrown;
    });
    return this.#storing;
  }

  async #store(folder: string): Promise<void> {
    const storage = openStorage(folder);
    const location = submissionLocation(folder);
    if ((await storage.size(location)) !== undefined) return;
    const submission = this.#init.submission();
    for (const sha256 of submission.artifacts) {
      const path = this.#init.artifactPath(sha256);
      if (path === undefined)
        throw new WeirError({
          code: "NOT_FOUND",
          domain: "external",
          message: `The job's staged file ${sha256} is not in the artifacts folder any more.`,
        });
      const target = artifactLocation(folder, sha256);
      if ((await storage.size(target)) !== (await stat(path)).size) await storage.upload(target, path);
    }
    await storage.create(location, encodeSubmission(submission));
  }

  /** A checkpoint is complete: a good time to write what has happened, if something has. */
  tell(history: () => StoredHistory): void {
    const folder = this.#directory?.path;
    const nowMs = this.#init.clock.monotonicMs();
    if (folder === undefined || this.#isWriting || nowMs - this.#historyMs < HISTORY_INTERVAL_MS) return;
    const content = history();
    const sequence = content.events.at(-1)?.sequence ?? 0;
    if (sequence <= this.#lastSequence) return;
    this.#historyMs = nowMs;
    this.#isWriting = true;
    this.#writing = this.#write(folder, sequence, content).finally(() => {
      this.#isWriting = false;
    });
  }

  /** Never rejects: the next one says the same and more. */
  async #write(folder: string, sequence: number, content: StoredHistory): Promise<void> {
    const storage = openStorage(folder);
    try {
      await storage.create(historyLocation(folder, sequence), encodeHistory(content));
      if (this.#lastSequence > 0) await storage.delete([historyLocation(folder, this.#lastSequence)]);
      this.#lastSequence = sequence;
    } catch (thrown) {
      this.#init.log.warn({ job: this.#init.jobId, err: thrown }, "the job's history could not be copied");
    }
  }

  /**
   * The job is over: where its folder outlives it, nobody goes on with it; save another job server that has taken the
   * job over, for which it is not. Never rejects.
   */
  async ended(): Promise<void> {
    const directory = this.#directory;
    if (directory === undefined) return;
    await this.#storing?.catch(() => undefined);
    await this.#writing;
    const folder = directory.path;
    const storage = openStorage(folder);
    try {
      if (await directory.isSuperseded()) return;
      if ((await storage.size(submissionLocation(folder))) === undefined) return;
      await storage.create(endedLocation(folder), new TextEncoder().encode('{"format":"weir-ended","version":1}\n'));
    } catch (thrown) {
      this.#init.log.warn({ job: this.#init.jobId, err: thrown }, "that the job is over could not be written");
    }
  }
}
