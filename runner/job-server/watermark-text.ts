/** Watermarks, and what holds them, in words: for `weir explain` and messages about a watermark that stands still. */

/** WatermarkHold of worker.proto, its times as numbers. */
export interface TaskHold {
  readonly kind: string;
  readonly transform: string;
  readonly detail: string;
  readonly timestamp: number;
  readonly count: number;
  readonly keyGroupFirst: number;
  readonly keyGroupLast: number;
}

/** Beam's, as near as a number comes to them. */
const MIN_TIMESTAMP = Number(-9_223_372_036_854_775n);
export const MAX_TIMESTAMP = Number(9_223_372_036_854_775n);

/** ISO time; "-∞" and "+∞" for Beam's extremes. */
export function watermarkText(ms: number): string {
  if (ms <= MIN_TIMESTAMP) return "-∞";
  if (ms >= MAX_TIMESTAMP) return "+∞";
  // Beyond what a Date can hold.
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : `${ms} ms`;
}

/** What it is, where, how many and where it stands. */
export function holdText(hold: TaskHold, bundleAgeMs: number): string {
  const { kind, transform, detail, timestamp, count } = hold;
  const of = transform === "" ? "" : ` of ${transform}`;
  const at = ` at ${watermarkText(timestamp)}`;
  switch (kind) {
    case "bundle":
      return `the bundle that runs, for ${Math.round(bundleAgeMs / 100) / 10} s, in ${transform}${at}`;
    case "event-time timer":
    case "processing-time timer":
      return `${count} ${kind}${count === 1 ? "" : "s"}${of}, family "${detail}"${at}${keyGroups(hold)}`;
    case "residual":
      return `the source or splittable DoFn${of}: ${count} restriction${count === 1 ? "" : "s"} to resume, its watermark estimator stands${at}`;
    case "side input":
      return `main input${of} that waits for side input ${detail === "" ? "content" : detail}${at}`;
    case "sorted input":
    case "stable input":
      return `input${of} that waits until it is ${kind === "sorted input" ? "sorted by time" : "stable"}${at}`;
    case "grouping":
      return `the grouping or its trigger${of}${at}`;
    default:
      return `${kind}${of}${at}`;
  }
}

function keyGroups({ keyGroupFirst, keyGroupLast }: TaskHold): string {
  if (keyGroupFirst < 0) return "";
  return keyGroupFirst === keyGroupLast
    ? `, key group ${keyGroupFirst}`
    : `, key groups ${keyGroupFirst} to ${keyGroupLast}`;
}
