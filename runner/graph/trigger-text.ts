/**
 * A trigger in words, as checkpoints' manifests and messages have it: `Repeat(AfterCount(3))`. Numbers of elements and
 * times stand in parentheses behind the names of what waits for them, and nowhere else.
 */
import { type TimestampTransform, Trigger } from "../../proto/gen/beam_runner_api.ts";

/** @param encoded a Trigger of beam_runner_api.proto; an empty one is the default trigger */
export function triggerText(encoded: Uint8Array): string {
  return textOf(Trigger.decode(encoded));
}

function textOf(proto: Trigger | undefined): string {
  const trigger = proto?.trigger;
  switch (trigger?.$case) {
    case undefined:
    case "default":
      return "Default";
    case "always":
      return "Always";
    case "never":
      return "Never";
    case "elementCount":
      return `AfterCount(${trigger.value.elementCount})`;
    case "afterProcessingTime":
      return `AfterProcessingTime(${trigger.value.timestampTransforms.map(transformText).join(", ")})`;
    case "afterSynchronizedProcessingTime":
      return "AfterSynchronizedProcessingTime";
    case "afterEndOfWindow": {
      const { earlyFirings, lateFirings } = trigger.value;
      const early = earlyFirings && `early ${textOf(earlyFirings)}`;
      const late = lateFirings && `late ${textOf(lateFirings)}`;
      return `AfterEndOfWindow${listed([early, late].filter((part) => part !== undefined))}`;
    }
    case "afterAll":
      return `AfterAll${listed(trigger.value.subtriggers.map(textOf))}`;
    case "afterAny":
      return `AfterAny${listed(trigger.value.subtriggers.map(textOf))}`;
    case "afterEach":
      return `AfterEach${listed(trigger.value.subtriggers.map(textOf))}`;
    case "orFinally":
      return `OrFinally${listed([trigger.value.main, trigger.value.finally].map(textOf))}`;
    case "repeat":
      return `Repeat${listed([textOf(trigger.value.subtrigger)])}`;
  }
}

function listed(parts: readonly string[]): string {
  return parts.length === 0 ? "" : `(${parts.join(", ")})`;
}

function transformText({ timestampTransform: transform }: TimestampTransform): string {
  if (transform?.$case === "alignTo") return `to ${transform.value.period} ms from ${transform.value.offset}`;
  return `${transform?.value.delayMillis ?? 0} ms`;
}
