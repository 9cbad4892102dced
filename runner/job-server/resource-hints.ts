/**
 * Resource hints (min_ram, accelerator, cpu_count, …), of --resource_hints or `with_resource_hints`, come in the
 * pipeline's environments. Workers are all alike here, so a job that has some is told that they change nothing.
 */
import type { EnvironmentSpec } from "../graph/execution-graph.ts";

/** One sentence, or none where there are no hints. */
export function resourceHintSentences(environments: Readonly<Record<string, EnvironmentSpec>>): string[] {
  const urns = new Set(Object.values(environments).flatMap(({ resourceHints }) => resourceHints));
  const names = [...urns].map((urn) => /^beam:resources:(.+):v\d+$/.exec(urn)?.[1] ?? urn).sort();
  return names.length === 0
    ? []
    : [
        `Resource hints (${names.join(", ")}) have no effect: any worker may run any stage. Give workers what they need.`,
      ];
}
