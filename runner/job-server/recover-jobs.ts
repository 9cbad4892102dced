/**
 * Jobs of a server whose disk is lost, from the folders of their checkpoints (job-copy.ts): they are put into this server's
 * store as they were, to be taken up like those of its own (take-up-jobs.ts).
 *
 * Whoever asks for this says that the other server is gone. Where it is not it loses the jobs: see leader-claim.ts.
 */
import { createReadStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { present } from "../base/assert.ts";
import { userError, WeirError } from "../base/errors.ts";
import type { JobId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import {
  artifactLocation,
  decodeHistory,
  decodeSubmission,
  endedLocation,
  newestHistory,
  type StoredSubmission,
  submissionLocation,
} from "../checkpoint/stored-submission.ts";
import { locationIn } from "../storage/checkpoint-storage.ts";
import { checkStorageRoot, openStorage } from "../storage/open-storage.ts";
import type { ArtifactStore } from "./artifact-store.ts";
import { eventOf, type JobEvent } from "./job-event-log.ts";
import { jobSettings } from "./job-settings.ts";
import { isTerminal } from "./job-state.ts";
import type { JobStore } from "./job-store.ts";
import { readOptions } from "./pipeline-options.ts";
import { decodeOptions } from "./submitted-names.ts";

export interface RecoverJobsInit {
  /** What jobs were given as --state_backend_storage_path, or the folder of one job in it. */
  readonly path: string;
  readonly store: JobStore;
  readonly artifacts: ArtifactStore;
  readonly log: Log;
}

/** What the store has of a job, for its copy. */
export function storedSubmission(store: JobStore, jobId: JobId): Omit<StoredSubmission, "artifacts"> {
  const { name: jobName, submittedMs, options } = present(store.job(jobId), `job ${jobId}`);
  return {
    jobId,
    jobName,
    submittedMs,
    options,
    retrievalToken: store.storedRun(jobId).retrievalToken,
    pipeline: present(store.pipeline(jobId), `pipeline of ${jobId}`),
    plan: present(store.plan(jobId), `plan of ${jobId}`),
  };
}

/**
 * Jobs that are over, or that the store knows, are left alone.
 * @returns the ids of those that were found
 * @throws WeirError naming the path when it cannot be read; a job whose own files are damaged is left out with an error in the log
 */
export async function recoverJobs(init: RecoverJobsInit): Promise<readonly JobId[]> {
  const { log } = init;
  const path = checkStorageRoot(init.path, "--recover-from");
  const storage = openStorage(path);
  const isJob = (await storage.size(submissionLocation(path))) !== undefined;
  const folders = isJob ? [path] : (await storage.folders(path)).map((name) => locationIn(path, name));
  const found: JobId[] = [];
  for (const folder of folders) {
    try {
      const jobId = await recoverJob(init, folder);
      if (jobId !== undefined) found.push(jobId);
    } catch (thrown) {
      const error = WeirError.from(thrown);
      if (error.code === "UNAVAILABLE") throw error;
      log.error({ folder, reason: error.message }, "a job cannot be recovered");
    }
  }
  log.info({ path, jobs: found }, "recovered jobs");
  return found;
}

async function recoverJob({ store, artifacts, log }: RecoverJobsInit, folder: string): Promise<JobId | undefined> {
  const storage = openStorage(folder);
  const locations = await storage.files(folder);
  const location = submissionLocation(folder);
  if (!locations.includes(location) || locations.includes(endedLocation(folder))) return undefined;
  const submission = decodeSubmission(await storage.read(location), location);
  const jobId = submission.jobId as JobId;
  if (store.job(jobId) !== undefined) return undefined;
  const settings = jobSettings(readOptions(decodeOptions(submission.options)));
  const home = locationIn(settings.checkpoints?.storageDirectory ?? "", jobId);
  if (home !== folder)
    throw userError(
      "FAILED_PRECONDITION",
      `Job ${jobId} keeps its checkpoints in ${home}, and was found in ${folder}.`,
      "Its options say where it goes on: make the folder available under that name.",
    );
  for (const sha256 of submission.artifacts) await fetchArtifact(artifacts, submission.retrievalToken, folder, sha256);
  const { jobName: name, submittedMs, options, pipeline, plan, retrievalToken } = submission;
  const { events, metrics } = await readHistory(folder, newestHistory(locations), submittedMs, log);
  store.insertJob({ jobId, name, state: "STOPPED", submittedMs, options, pipeline, plan, retrievalToken });
  store.appendEvents(jobId, events);
  if (metrics !== undefined) store.setMetrics(jobId, metrics);
  return jobId;
}

async function fetchArtifact(artifacts: ArtifactStore, owner: string, folder: string, sha256: string): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "weir-artifact-"));
  try {
    const local = join(directory, sha256);
    await openStorage(folder).download(artifactLocation(folder, sha256), local);
    await artifacts.put(owner, createReadStream(local), sha256, `${sha256} of ${folder}`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Without it the job is known to have run, and no more. */
async function readHistory(
  folder: string,
  location: string | undefined,
  submittedMs: number,
  log: Log,
): Promise<{ readonly events: readonly JobEvent[]; readonly metrics: Uint8Array | undefined }> {
  try {
    if (location !== undefined) {
      const { events, metrics } = decodeHistory(await openStorage(folder).read(location), location);
      const running = events.map(eventOf).filter((event) => event.kind === "message" || !isTerminal(event.state));
      return { events: running, metrics };
    }
  } catch (thrown) {
    const error = WeirError.from(thrown);
    if (error.code === "UNAVAILABLE") throw error;
    log.warn({ location, reason: error.message }, "the history of a job is lost");
  }
  const states = (["STOPPED", "STARTING", "RUNNING"] as const).map((state, index) => ({
    kind: "state" as const,
    sequence: index + 1,
    timeMs: submittedMs,
    state,
  }));
  return { events: states, metrics: undefined };
}
