/** Where the tasks of a streaming job go in its next execution attempt. Pure. */
import type { WorkerId } from "../base/ids.ts";

/**
 * Puts workers into an order in which those that ran the job before have the places that they had, so that their tasks
 * come back to them, and to their local copies of the state. New ones take the places of those that are gone.
 * @param former the order of the attempt before; empty for the first one
 */
export function successivePlacement<Worker extends { readonly workerId: WorkerId }>(
  workers: readonly Worker[],
  former: readonly WorkerId[],
): Worker[] {
  const byId = new Map(workers.map((worker) => [worker.workerId, worker]));
  const known = new Set(former);
  const others = workers.filter(({ workerId }) => !known.has(workerId));
  const places = former.map((workerId) => byId.get(workerId) ?? others.shift());
  return [...places.filter((worker) => worker !== undefined), ...others];
}
