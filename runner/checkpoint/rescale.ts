/**
 * Which former subtasks' snapshots a subtask goes on from when the parallelism of its vertex has changed. Pure.
 *
 * Key groups are cut into contiguous ranges, as Flink's KeyGroupRangeAssignment does; a subtask takes of each former one
 * the key groups that both own. Rows of no key (residuals, watermarks, waiting input, side inputs) have no owner by
 * range: every subtask reads them all, and rules of their own (FORMAT.md) say who keeps which.
 *
 * Invariant: over all subtasks each key group is taken exactly once, from the former subtask that owned it.
 */

/** Key groups [first, end); empty when they are equal. */
export interface KeyGroupRange {
  readonly firstKeyGroup: number;
  readonly endKeyGroup: number;
}

export interface FormerPart extends KeyGroupRange {
  /** Of a former subtask. */
  readonly subtaskIndex: number;
}

/** What a subtask owns: the key groups for which `partitionOf` is its index. */
export function keyGroupsOf(subtaskIndex: number, parallelism: number, maxParallelism: number): KeyGroupRange {
  return {
    firstKeyGroup: Math.ceil((subtaskIndex * maxParallelism) / parallelism),
    endKeyGroup: Math.ceil(((subtaskIndex + 1) * maxParallelism) / parallelism),
  };
}

/** One part for each former subtask, in their order. */
export function formerPartsOf(
  subtaskIndex: number,
  parallelism: number,
  formerParallelism: number,
  maxParallelism: number,
): FormerPart[] {
  const own = keyGroupsOf(subtaskIndex, parallelism, maxParallelism);
  return Array.from({ length: formerParallelism }, (_, index) => {
    const former = keyGroupsOf(index, formerParallelism, maxParallelism);
    const firstKeyGroup = Math.max(own.firstKeyGroup, former.firstKeyGroup);
    return {
      subtaskIndex: index,
      firstKeyGroup,
      endKeyGroup: Math.max(firstKeyGroup, Math.min(own.endKeyGroup, former.endKeyGroup)),
    };
  });
}
