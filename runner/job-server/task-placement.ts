/**
 * Where a task runs. Pure. A lone task stays where the job already has a warm harness, nearest to most of its input;
 * subtasks that run side by side are spread.
 */
import type { TaskAttemptId, WorkerId } from "../base/ids.ts";
import type { PlannedTask } from "./blocking-schedule.ts";
import type { RegisteredWorker } from "./worker-registry.ts";

/** @returns undefined when no worker has a free slot. */
export function choosePlacement(
  task: PlannedTask,
  workers: readonly RegisteredWorker[],
  opened: ReadonlyMap<WorkerId, unknown>,
  running: readonly { readonly attemptId: TaskAttemptId; readonly workerId: WorkerId }[],
): RegisteredWorker | undefined {
  const load = new Map<WorkerId, number>();
  for (const attempt of running) load.set(attempt.workerId, (load.get(attempt.workerId) ?? 0) + 1);
  const local = new Map<WorkerId, number>();
  for (const input of task.mainInput) local.set(input.workerId, (local.get(input.workerId) ?? 0) + input.byteLength);
  const free = workers.filter((worker) => (load.get(worker.workerId) ?? 0) < worker.slots);
  const spread = task.parallelism > 1;
  const rank = (worker: RegisteredWorker): readonly number[] => {
    const busy = load.get(worker.workerId) ?? 0;
    const known = opened.has(worker.workerId) ? 0 : 1;
    const near = -(local.get(worker.workerId) ?? 0);
    return spread ? [busy, near, known] : [known, near, busy];
  };
  return free.map((worker) => ({ worker, rank: rank(worker) })).sort((left, right) => compare(left.rank, right.rank))[0]
    ?.worker;
}

function compare(left: readonly number[], right: readonly number[]): number {
  for (const [index, value] of left.entries()) {
    const difference = value - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
