/**
 * What another windowing strategy means to what a snapshot keeps by window. Pure.
 *
 * Windows that have begun keep what they have: their boundaries, the state of their trigger, elements that wait for a
 * pane. What could not be read, or would give such windows results of two minds, is incompatible; what they go on
 * with from now on is a change that the user is told.
 */
import type { ManifestTable } from "./snapshot-manifest.ts";

export type ManifestWindowing = NonNullable<ManifestTable["windowing"]>;

export interface WindowingChanges {
  /** Ends of sentences: what was and what is. */
  readonly incompatible: readonly string[];
  readonly changed: readonly string[];
}

export function windowingChanges(was: ManifestWindowing, is: ManifestWindowing): WindowingChanges {
  const incompatible: string[] = [];
  const changed: string[] = [];
  const [[formerFn, formerParameters], [fn, parameters]] = [windowFnOf(was), windowFnOf(is)];
  if (formerFn !== fn) incompatible.push(`its WindowFn was ${formerFn} and is ${fn} now.`);
  // Earlier snapshots may have parameters that a manifest leaves out today: what an SDK pickled.
  else if (formerParameters !== undefined && parameters !== undefined && formerParameters !== parameters)
    changed.push(`its WindowFn, ${fn}, has other parameters; windows that have begun stay as they are.`);
  // An older snapshot does not say: then nothing is compared.
  if (was.merging !== undefined && is.merging !== undefined && was.merging !== is.merging)
    incompatible.push(`its windows ${is.merging ? "did not merge and do" : "merged and do not"} now.`);
  if (was.trigger !== is.trigger) triggerChange(was, is, incompatible, changed);
  if (was.accumulationMode !== is.accumulationMode)
    incompatible.push(`its accumulation mode was ${was.accumulationMode} and is ${is.accumulationMode} now.`);
  if (was.allowedLatenessMs !== is.allowedLatenessMs)
    changed.push(`its allowed lateness was ${was.allowedLatenessMs} ms and is ${is.allowedLatenessMs} ms now.`);
  const told = (what: string, before: string | undefined, now: string | undefined, meaning: string): void => {
    if (before !== undefined && now !== undefined && before !== now)
      changed.push(`its ${what} was ${before} and is ${now} now; ${meaning}.`);
  };
  const { timestampCombiner, closingBehavior, onTimeBehavior } = is;
  told(
    "timestamp combiner",
    was.timestampCombiner,
    timestampCombiner,
    "the next pane of a window that has begun may have a timestamp by either",
  );
  told("closing behaviour", was.closingBehavior, closingBehavior, "windows that have begun end by the new one");
  told("on-time behaviour", was.onTimeBehavior, onTimeBehavior, "windows that have begun go on by the new one");
  return { incompatible, changed };
}

/** The URN, and the parameters where they are known. */
function windowFnOf({ windowFn }: ManifestWindowing): [string, string | undefined] {
  const [urn = "", parameters] = windowFn.split("?");
  return [urn, parameters];
}

/** Triggers of one shape have the same state: how many elements there were, and since when they wait. */
function triggerChange(was: ManifestWindowing, is: ManifestWindowing, incompatible: string[], changed: string[]): void {
  const [before, now] = [was.triggerText, is.triggerText];
  if (before === undefined || now === undefined) {
    incompatible.push("its trigger was changed, and windows that have begun have the state of the former one.");
    return;
  }
  // The default trigger is spelled in two ways.
  if (before === now) return;
  const text = `its trigger was ${before} and is ${now} now`;
  if (shapeOf(before) === shapeOf(now)) changed.push(`${text}; windows that have begun go on by the new one.`);
  else incompatible.push(`${text}, and windows that have begun have the state of the former one.`);
}

/** Without the numbers: what stands in innermost parentheses behind what counts or waits. */
function shapeOf(trigger: string): string {
  return trigger.replaceAll(/(AfterCount|AfterProcessingTime)\([^()]*\)/g, "$1");
}
