/** Where the tasks of a streaming job go in its next execution attempt. Pure. */
import type { WorkerId } from "../base/ids.ts";

/**
 * Puts workers into an order in which those that ran the job before have the places that they had, so that their tasks
 * come back to them, and to their local copies of the state. New ones take the places of those that are gone.
 * @param former the order of the attempt before; empty for the first one
 * @param isFixed tasks go on running where they are: every place stays what it was, those that are gone and find no new
 *   worker go to the ones that are left, and no place is added
 */
export function successivePlacement<Worker extends { readonly workerId: WorkerId }>(
  workers: readonly Worker[],
  former: readonly WorkerId[],
  isFixed = false,
): Worker[] {
  const byId = new Map(workers.map((worker) => [worker.workerId, worker]));
  const known = new Set(former);
  const others = workers.filter(({ workerId }) => !known.has(workerId));
  if (isFixed) {
    const left = workers.filter(({ workerId }) => known.has(workerId));
    return former.flatMap((workerId, index) => {
      const worker = byId.get(workerId) ?? others.shift() ?? left[index % left.length];
      return worker === undefined ? [] : [worker];
    });
  }
  // A worker may have had several places, those of others too.
  const places = [...known].map((workerId) => byId.get(workerId) ?? others.shift());
  return [...places.filter((worker) => worker !== undefined), ...others];
}
