/**
 * What holds the output watermark of a streaming task, by name: for `weir explain` and for messages about a watermark
 * that stands still. Read now and then, never on an element's path.
 */
import type { ExecutableStageSpec } from "../../graph/execution-graph.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";

export type HoldKind =
  | "bundle"
  | "event-time timer"
  | "processing-time timer"
  | "residual"
  | "side input"
  | "sorted input"
  | "stable input"
  | "grouping";

/** Plain data. */
export interface WatermarkHold {
  readonly kind: HoldKind;
  /** Unique name of the transform; "" where none can be named. */
  readonly transform: string;
  /** The timer family, or the names of the side inputs that are not ready. */
  readonly detail: string;
  readonly timestamp: Timestamp;
  /** How many hold it there; 0 where they are not counted. */
  readonly count: number;
  /** Of those; -1 where they have no key. */
  readonly keyGroupFirst: number;
  readonly keyGroupLast: number;
}

/** Timers that hold the watermark at their least output timestamp, of one family. */
export interface TimerHold {
  readonly transform: string;
  readonly timerFamilyId: string;
  readonly isEventTime: boolean;
  readonly timestamp: Timestamp;
  readonly count: number;
  readonly keyGroupFirst: number;
  readonly keyGroupLast: number;
}

/** The watermark after its holds, and which of them keeps it back: "" when none does. */
export function leastHold(
  watermark: Timestamp,
  holds: readonly (readonly [hold: Timestamp, by: string])[],
): { readonly timestamp: Timestamp; readonly heldBy: string } {
  let timestamp = watermark;
  let heldBy = "";
  for (const [hold, by] of holds) {
    if (hold >= timestamp) continue;
    timestamp = hold;
    heldBy = by;
  }
  return { timestamp, heldBy };
}

/** What of a stage can hold its watermark. */
export interface StageHolds {
  readonly spec: Pick<ExecutableStageSpec, "transforms" | "sideInputs" | "splittable">;
  /** Of the running bundle; undefined when none runs. */
  readonly bundle: Timestamp | undefined;
  readonly residuals: { readonly hold: Timestamp; readonly count: number };
  readonly timers: readonly TimerHold[];
  readonly pushedBack: { readonly hold: Timestamp; readonly count: number };
  /** Side inputs that are not ready for every window. */
  readonly openSideInputs: readonly { readonly transformId: string; readonly localName: string }[];
  readonly waiting: { readonly hold: Timestamp; readonly heldBy: string; readonly count: number } | undefined;
}

/** So many are told. */
const MAX_HOLDS = 16;

/** The stage's holds, the least first; those without effect (at +∞) are left out. */
export function describeHolds(stage: StageHolds): WatermarkHold[] {
  const { spec, residuals, pushedBack, waiting } = stage;
  const noKeys = { keyGroupFirst: -1, keyGroupLast: -1 };
  const names = spec.transforms.map(({ uniqueName }) => uniqueName);
  const source = spec.transforms.find(({ urn }) => urn.includes(":sdf_process_sized"))?.uniqueName;
  const holds: WatermarkHold[] = [];
  if (stage.bundle !== undefined)
    holds.push({ kind: "bundle", transform: names[0] ?? "", detail: "", timestamp: stage.bundle, count: 1, ...noKeys });
  const residual = {
    kind: "residual",
    transform: source ?? names[0] ?? "",
    detail: "",
    count: residuals.count,
  } as const;
  holds.push({ ...residual, timestamp: residuals.hold, ...noKeys });
  for (const { isEventTime, timerFamilyId, ...timer } of stage.timers)
    holds.push({
      ...timer,
      kind: isEventTime ? "event-time timer" : "processing-time timer",
      detail: timerFamilyId,
    });
  const readers = new Set(spec.sideInputs.map(({ transformId }) => transformId));
  const reader = spec.transforms.find(({ id }) => readers.has(id))?.uniqueName ?? "";
  const nameOf = new Map(spec.transforms.map(({ id, uniqueName }) => [id, uniqueName]));
  const open = stage.openSideInputs.map(
    ({ transformId, localName }) => `${localName} of ${nameOf.get(transformId) ?? transformId}`,
  );
  const side = { kind: "side input", transform: reader, detail: open.join(", ") } as const;
  holds.push({ ...side, timestamp: pushedBack.hold, count: pushedBack.count, ...noKeys });
  if (waiting !== undefined) {
    const kind = waiting.heldBy === "stable input" ? "stable input" : "sorted input";
    const { hold: timestamp, count } = waiting;
    holds.push({ kind, transform: names[0] ?? "", detail: "", timestamp, count, ...noKeys });
  }
  return holds
    .filter(({ timestamp }) => timestamp < MAX_TIMESTAMP)
    .sort((left, right) => left.timestamp - right.timestamp)
    .slice(0, MAX_HOLDS);
}
