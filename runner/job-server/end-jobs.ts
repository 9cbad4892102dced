/**
 * What becomes of running jobs when their server is told to end: those that another server can go on with are left as a
 * crash would leave them, the others are cancelled.
 */
import type { Clock } from "../base/clock.ts";
import type { JobId } from "../base/ids.ts";
import type { Job } from "./job.ts";
import type { JobExecutor } from "./job-executor.ts";

/** Of streaming jobs with checkpoints, but those whose SDK harness lives in their client. */
export type OnShutdown = "suspend" | "cancel";

/** So long they may take to end. */
const GRACE_MS = 8_000;

export interface EndJobsInit {
  readonly onShutdown: OnShutdown;
  readonly executor: Pick<JobExecutor, "suspend">;
  readonly cancel: (jobId: JobId) => void;
  readonly clock: Clock;
}

/** Resolves when they have ended, or have taken too long. */
export async function endJobs(
  live: readonly { readonly job: Job; readonly ended: Promise<void> }[],
  init: EndJobsInit,
): Promise<void> {
  const suspended = new Set(live.filter(({ job }) => suspend(job, init)));
  const cancelled = live.filter((entry) => !suspended.has(entry));
  for (const { job } of cancelled) {
    job.message("WARNING", "The job server is ending: the job is cancelled.");
    init.cancel(job.jobId);
  }
  const grace = new AbortController();
  const late = init.clock.sleep(GRACE_MS, grace.signal).catch(() => undefined);
  await Promise.race([Promise.all(live.map(({ ended }) => ended)), late]);
  grace.abort();
  for (const { job } of cancelled) job.finish({ kind: "cancelled" });
  for (const { job } of live) job.close();
}

function suspend(job: Job, { onShutdown, executor }: EndJobsInit): boolean {
  if (onShutdown === "cancel" || (job.state !== "RUNNING" && job.state !== "DRAINING")) return false;
  if (!executor.suspend(job.jobId)) return false;
  job.message(
    "WARNING",
    "The job server is ending: the job is suspended, and goes on from its last checkpoint under the next job server on this data directory.",
  );
  return true;
}
