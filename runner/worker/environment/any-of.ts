/**
 * AnyOf environments (beam:env:anyof:v1): the first alternative that can be had here. Whether one can be had is found
 * out by starting it: there is no other sure way to know. The order is ours, from cheap to dear: a running pool, a
 * command, an image; among equals it is the pipeline's.
 */
import { AnyOfEnvironmentPayload } from "../../../proto/gen/beam_runner_api.ts";
import { WeirError } from "../../base/errors.ts";
import type { EnvironmentSpec } from "../../graph/execution-graph.ts";
import type { HarnessStart, StartedHarness } from "../task/ports.ts";

const ORDER: readonly string[] = ["beam:env:external:v1", "beam:env:process:v1", "beam:env:docker:v1"];
const DEPTH_LIMIT = 8;

/** @throws WeirError with the reason of each alternative when none can be started. */
export async function startAnyOf(
  start: (request: HarnessStart) => Promise<StartedHarness>,
  request: HarnessStart,
): Promise<StartedHarness> {
  const refusals: WeirError[] = [];
  for (const environment of alternatives(request.environment)) {
    try {
      return await start({ ...request, environment });
    } catch (failure) {
      request.signal.throwIfAborted();
      refusals.push(WeirError.from(failure));
    }
  }
  throw new WeirError({
    code: "FAILED_PRECONDITION",
    domain: "user",
    message: `None of the ${refusals.length} alternatives of the environment can be started here:\n${refusals
      .map((refusal) => `- ${refusal.message}`)
      .join("\n")}`,
    // A pool that is not up yet may come.
    retry: refusals.some((refusal) => refusal.retry),
  });
}

/** The alternatives in the order in which they are tried; nested ones are flattened. Pure. */
export function alternatives(environment: EnvironmentSpec, depth = 0): readonly EnvironmentSpec[] {
  if (environment.urn !== "beam:env:anyof:v1") return [environment];
  if (depth >= DEPTH_LIMIT) return [];
  const rank = (spec: EnvironmentSpec) => (ORDER.includes(spec.urn) ? ORDER.indexOf(spec.urn) : ORDER.length);
  return AnyOfEnvironmentPayload.decode(environment.payload)
    .environments.flatMap((nested) => alternatives(specOf(nested), depth + 1))
    .toSorted((left, right) => rank(left) - rank(right));
}

function specOf(nested: AnyOfEnvironmentPayload["environments"][number]): EnvironmentSpec {
  const { urn, payload, capabilities, dependencies } = nested;
  return { urn, payload, capabilities, resourceHints: Object.keys(nested.resourceHints), dependencies };
}
