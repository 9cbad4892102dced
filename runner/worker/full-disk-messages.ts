/** Tells the jobs of a worker that its disk is full and they wait, and that they go on; within bounds. */
import type { WorkerMessage } from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { DiskNews } from "../state/disk-room.ts";

export interface FullDiskMessagesInit {
  readonly workerId: string;
  /** Of jobs that the worker has. */
  readonly jobIds: () => Iterable<string>;
  readonly send: (message: Extract<NonNullable<WorkerMessage["message"]>, { $case: "jobMessage" }>) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Beam's JobMessage.MessageImportance. */
const BASIC = 3;
const WARNING = 4;
/** A disk that is full, and has room, and is full: told of once in a while. */
const PAUSE_MS = 60_000;

/** @returns what a DiskRoom is to call */
export function fullDiskMessages({
  workerId,
  jobIds,
  send,
  clock,
  log,
}: FullDiskMessagesInit): (news: DiskNews) => void {
  /** Of jobs, when they were told that it is full. */
  const toldMs = new Map<string, number>();
  const waiting = new Set<string>();
  const tell = (jobId: string, importance: number, text: string) =>
    send({ $case: "jobMessage", value: { jobId, importance, text, timeMs: BigInt(Math.trunc(clock.nowMs())) } });

  return ({ directory, isFull, limitMs }) => {
    const nowMs = clock.monotonicMs();
    const jobs = new Set(jobIds());
    for (const [jobId, atMs] of toldMs) if (!jobs.has(jobId) || nowMs - atMs >= PAUSE_MS) toldMs.delete(jobId);
    if (!isFull) {
      log.warn({ directory }, "nothing waits for room on the disk any more");
      for (const jobId of waiting)
        if (jobs.has(jobId)) tell(jobId, BASIC, `The disk of worker ${workerId} has room again: the job goes on.`);
      waiting.clear();
      return;
    }
    const news = [...jobs].filter((jobId) => !toldMs.has(jobId));
    if (news.length === 0) return;
    log.warn({ directory }, "the disk is full: what spills waits");
    for (const jobId of news) {
      toldMs.set(jobId, nowMs);
      waiting.add(jobId);
      tell(
        jobId,
        WARNING,
        `The disk of worker ${workerId} is full: what does not fit into its memory waits for room in ${directory}, for ${limitMs / 1000} seconds at most. Free space there; or start the workers with a temporary directory (TMPDIR) on a larger disk, or with more memory.`,
      );
    }
  };
}
