/**
 * Session merging: interval windows that overlap become one. Pure; works on numbers, and on bigints where bounds lie
 * beyond 2^53 (an element without a timestamp has Beam's minimum).
 *
 * Rule: windows are half-open, [start, end); those that only touch stay apart.
 * Source: MergeOverlappingIntervalWindows of the Java SDK, Sessions.merge of the Python SDK.
 */

export interface Interval<Ms extends number | bigint = number> {
  readonly start: Ms;
  readonly end: Ms;
}

export interface MergedIntervals<Ms extends number | bigint> {
  /** By start; no two overlap. */
  readonly merged: readonly Interval<Ms>[];
  /** For each window given, in its order, the index in `merged` of the one that it became part of. */
  readonly targets: Int32Array;
}

/** @param starts with `ends` the windows, one at each index */
export function mergeIntervals<Ms extends number | bigint>(
  starts: ArrayLike<Ms>,
  ends: ArrayLike<Ms>,
): MergedIntervals<Ms> {
  const targets = new Int32Array(starts.length);
  const order = new Int32Array(starts.length);
  for (let index = 0; index < order.length; index++) order[index] = index;
  order.sort((left, right) => {
    const a = starts[left] as Ms;
    const b = starts[right] as Ms;
    return a < b ? -1 : a > b ? 1 : left - right;
  });
  const merged: { start: Ms; end: Ms }[] = [];
  let last: { start: Ms; end: Ms } | undefined;
  for (const index of order) {
    const start = starts[index] as Ms;
    const end = ends[index] as Ms;
    if (last !== undefined && start < last.end) {
      if (end > last.end) last.end = end;
    } else {
      last = { start, end };
      merged.push(last);
    }
    targets[index] = merged.length - 1;
  }
  return { merged, targets };
}
