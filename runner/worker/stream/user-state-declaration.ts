/**
 * What a stage declares about its user states, read from the descriptor that its harness gets: the windowing of the
 * transform's main input, and how the values of a multimap are encoded.
 *
 * Source: ProcessBundleDescriptor of beam_fn_api.proto; StateSpec of beam_runner_api.proto.
 */
import { ProcessBundleDescriptor } from "../../../proto/gen/beam_fn_api.ts";
import { ParDoPayload, type StateSpec } from "../../../proto/gen/beam_runner_api.ts";
import { WeirError } from "../../base/errors.ts";
import { decodeIntervalWindow } from "../../coders/interval-window.ts";
import { malformed } from "../../coders/byte-reader.ts";
import { compileSkip, type Skip } from "../../coders/element-boundary.ts";
import type { CoderSpec, CoderTable, ExecutableStageSpec } from "../../graph/execution-graph.ts";
import { readTimestamp, type Timestamp, TIMESTAMP_BYTES } from "../../time/timestamp.ts";
import type { MaxTimestampOf } from "./user-state-expiry.ts";

export interface UserStateDeclaration {
  readonly transformId: string;
  readonly userStateId: string;
  /** Undefined for the global window, whose state never expires. */
  readonly windows: { readonly maxTimestampOf: MaxTimestampOf; readonly allowedLatenessMs: number } | undefined;
  /** Of a multimap's values; undefined for other kinds and for coders that the runner cannot walk. */
  readonly valueSkip: Skip | undefined;
}

/** @throws WeirError naming the transform whose windows the runner cannot read. */
export function declaredUserStates(stage: ExecutableStageSpec): UserStateDeclaration[] {
  if (stage.userStates.length === 0) return [];
  const descriptor = ProcessBundleDescriptor.decode(stage.descriptor);
  const coders: Record<string, CoderSpec> = {};
  for (const [id, coder] of Object.entries(descriptor.coders))
    coders[id] = {
      urn: coder.spec?.urn ?? "",
      payload: coder.spec?.payload ?? new Uint8Array(),
      components: coder.componentCoderIds,
    };
  return stage.userStates.map(({ transformId, localName }) => {
    const transform = descriptor.transforms[transformId];
    const parDo = ParDoPayload.decode(transform?.spec?.payload ?? new Uint8Array());
    const inputs = Object.entries(transform?.inputs ?? {});
    const mainInput = inputs.find(([name]) => parDo.sideInputs[name] === undefined)?.[1] ?? "";
    const windowing = descriptor.windowingStrategies[descriptor.pcollections[mainInput]?.windowingStrategyId ?? ""];
    if (windowing === undefined)
      throw new WeirError({
        code: "INTERNAL",
        domain: "internal",
        message: `The windowing of transform ${transform?.uniqueName ?? transformId}, which has state, is not known.`,
      });
    const maxTimestampOf = maxTimestampReader(coders, windowing.windowCoderId);
    return {
      transformId,
      userStateId: localName,
      windows:
        maxTimestampOf === undefined
          ? undefined
          : { maxTimestampOf, allowedLatenessMs: Number(windowing.allowedLateness) },
      valueSkip: valueSkipOf(coders, parDo.stateSpecs[localName]),
    };
  });
}

/** Of encoded windows. Undefined for the global window. */
export function maxTimestampReader(coders: CoderTable, coderId: string): MaxTimestampOf | undefined {
  const urn = coders[coderId]?.urn ?? "not defined";
  switch (urn) {
    case "beam:coder:global_window:v1":
      return undefined;
    case "beam:coder:interval_window:v1":
      return (window) => (decodeIntervalWindow(window, 0).end - 1) as Timestamp;
    case "beam:coder:custom_window:v1":
      return (window) => {
        if (window.length < TIMESTAMP_BYTES) throw malformed(urn, window, 0);
        return readTimestamp(window, 0);
      };
    default:
      throw new WeirError({
        code: "UNIMPLEMENTED",
        domain: "internal",
        message: `The runner cannot read windows encoded with coder "${coderId}" (${urn}), which state has to expire.`,
      });
  }
}

function valueSkipOf(coders: CoderTable, state: StateSpec | undefined): Skip | undefined {
  const spec = state?.spec;
  if (spec?.$case !== "multimapSpec" && spec?.$case !== "mapSpec") return undefined;
  try {
    return compileSkip(coders, spec.value.valueCoderId);
  } catch {
    // Only who reads the entries needs it, and is told then.
    return undefined;
  }
}
