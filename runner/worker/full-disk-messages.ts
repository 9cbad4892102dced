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
  const tellJobs = (importance: number, text: string) => {
    const timeMs = BigInt(Math.trunc(clock.nowMs()));
    for (const jobId of jobIds()) send({ $case: "jobMessage", value: { jobId, importance, text, timeMs } });
  };
  let toldMs: number | undefined;
  let isTold = false;
  return ({ directory, isFull, limitMs }) => {
    const nowMs = clock.monotonicMs();
    if (isFull && toldMs !== undefined && nowMs - toldMs < PAUSE_MS) return;
    if (!isFull && !isTold) return;
    isTold = isFull;
    if (isFull) toldMs = nowMs;
    log.warn({ directory, isFull }, isFull ? "the disk is full: what spills waits" : "the disk has room again");
    if (isFull)
      tellJobs(
        WARNING,
        `The disk of worker ${workerId} is full: what does not fit into its memory waits for room in ${directory}, for ${limitMs / 60_000} minutes at most. Free space there; or start the workers with a temporary directory (TMPDIR) on a larger disk, or with more memory.`,
      );
    else tellJobs(BASIC, `The disk of worker ${workerId} has room again: the job goes on.`);
  };
}
